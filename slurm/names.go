package slurm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// prefixOf begins the name of every job of a queue. Anybody on the cluster sees it.
func prefixOf(queueID string) string { return "dspy-" + queueID + "-" }

// nameOf is the name and the comment of the job of an attempt. It is by what a second
// try finds the first.
func nameOf(queueID string, r task.Ref) string {
	return fmt.Sprintf("%s%d-%d", prefixOf(queueID), r.Seq, r.Attempt)
}

// refOf reads a name; false when it is not that of an attempt of the queue.
func refOf(queueID, name string) (task.Ref, bool) {
	rest, ok := strings.CutPrefix(name, prefixOf(queueID))
	if !ok {
		return task.Ref{}, false
	}
	return parseRef(rest)
}

// parseRef reads SEQ-ATTEMPT.
func parseRef(text string) (task.Ref, bool) {
	a, b, _ := strings.Cut(text, "-")
	seq, err := strconv.ParseUint(a, 10, 64)
	attempt, err2 := strconv.Atoi(b)
	return task.Ref{Seq: task.Seq(seq), Attempt: attempt}, err == nil && err2 == nil
}
