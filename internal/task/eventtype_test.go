package task_test

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestEventType(t *testing.T) {
	for _, tc := range []struct {
		r    task.Record
		want string
	}{
		{task.Record{Kind: task.EventSubmitted, To: task.Pending}, "task_submitted"},
		{task.Record{Kind: task.EventPlaced, To: task.Assigned}, ""},
		{task.Record{Kind: task.EventLaunched, To: task.Starting}, ""},
		{task.Record{Kind: task.EventStarted, To: task.Running}, "task_started"},
		{task.Record{Kind: task.EventStopping, To: task.Stopping}, ""},
		{task.Record{Kind: task.EventExited, To: task.Succeeded}, "task_completed"},
		{task.Record{Kind: task.EventExited, To: task.Failed}, "task_failed"},
		{task.Record{Kind: task.EventExited, To: task.Failed, Again: true}, "task_retrying"},
		{task.Record{Kind: task.EventStopped, To: task.Cancelled}, "task_cancelled"},
		{task.Record{Kind: task.EventCancelled, To: task.Cancelled}, "task_cancelled"},
		{task.Record{Kind: task.EventRefused, To: task.Failed}, "task_failed"},
		{task.Record{Kind: task.EventNotStarted, To: task.Failed}, "task_failed"},
		{task.Record{Kind: task.EventVanished, To: task.Lost}, "task_failed"},
		{task.Record{Kind: task.EventVanished, To: task.Lost, Again: true}, "task_retrying"},
		{task.Record{Kind: task.EventRetried, To: task.Pending}, "task_retrying"},
		{task.Record{Kind: task.EventCancelAsked, To: task.Running}, ""},
		{task.Record{Kind: task.EventNoted, To: task.Running}, ""},
		{task.Record{Kind: task.EventGPUFailed}, "gpu_unhealthy"},
	} {
		if got := tc.r.EventType(); got != tc.want {
			t.Errorf("%s to %s, again %v: %q, want %q", tc.r.Kind, tc.r.To, tc.r.Again, got, tc.want)
		}
	}
}
