package process

import (
	"strconv"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// markerVar is the environment variable by which a process is known as part of
// an attempt, whatever it did to its parents, session and process group.
const markerVar = "DSPY_TASK_UID"

// marker is the value of markerVar: it names the attempt among all queues.
func marker(queueID string, r task.Ref) string {
	b := make([]byte, 0, len(queueID)+24)
	b = append(b, queueID...)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(r.Seq), 10)
	b = append(b, '.')
	return string(strconv.AppendInt(b, int64(r.Attempt), 10))
}

func refOf(n *supervisorpb.Name) task.Ref {
	return task.Ref{Seq: task.Seq(n.GetSeq()), Attempt: int(n.GetAttempt())}
}

func nameOf(r task.Ref) *supervisorpb.Name {
	return &supervisorpb.Name{Seq: uint64(r.Seq), Attempt: uint32(r.Attempt)}
}
