package api

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestAReplayedEndIsNotSentTwice has a task end between the moment the stream
// takes its place in the log and the moment it looks at the task: the end is
// then both in the replay and in the log. Sending it again would fail, as there
// is nowhere to send to.
func TestAReplayedEndIsNotSentTwice(t *testing.T) {
	f := &resultStream{chosen: &chosen{bySeq: map[task.Seq]*chosenTask{1: {sent: 2}}}}
	for attempt := 1; attempt <= 2; attempt++ {
		r := task.Record{Index: 9, Seq: 1, Kind: task.EventExited, Attempt: attempt, To: task.Failed}
		if err := f.take(r); err != nil {
			t.Error(err)
		}
	}
}
