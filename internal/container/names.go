package container

import (
	"fmt"
	"strconv"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The labels of what is ours. They are a contract between releases.
const (
	labelQueue   = "dev.dspy-agent.queue"
	labelSeq     = "dev.dspy-agent.seq"
	labelAttempt = "dev.dspy-agent.attempt"
	labelTask    = "dev.dspy-agent.task" // for people
)

// nameOf is the name of an attempt's container. It is what a second try finds.
func nameOf(queueID string, r task.Ref) string {
	return fmt.Sprintf("dspy-%s-%d-%d", queueID, r.Seq, r.Attempt)
}

func labelsOf(queueID string, t task.Task) map[string]string {
	return map[string]string{
		labelQueue: queueID, labelSeq: strconv.FormatUint(uint64(t.Seq), 10), labelAttempt: strconv.Itoa(t.Attempt()), labelTask: t.Spec.ID,
	}
}

// refOf reads the labels; false when they are not those of an attempt of the queue.
func refOf(queueID string, labels map[string]string) (task.Ref, bool) {
	seq, err := strconv.ParseUint(labels[labelSeq], 10, 64)
	attempt, err2 := strconv.Atoi(labels[labelAttempt])
	ok := err == nil && err2 == nil && labels[labelQueue] == queueID
	return task.Ref{Seq: task.Seq(seq), Attempt: attempt}, ok
}
