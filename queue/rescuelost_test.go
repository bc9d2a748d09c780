package queue

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestLose: wherever a task stood of which what was asked for is lost, the steps of the
// table lead from there to its end, and no state is made up.
func TestLose(t *testing.T) {
	t.Parallel()
	r := newRescuer(&salvaged{}, 1000, "queue repair")
	for _, state := range task.States {
		if state.Terminal() {
			continue // its record says how it ended
		}
		for name, st := range map[string]task.Status{
			"plain":           {State: state, Attempt: 1},
			"to be cancelled": {State: state, Attempt: 3, Cancel: &task.Cancel{By: "uid 7"}, Cause: task.CauseCancel},
			"held":            {State: state, Attempt: 2, Held: "as asked", NotBefore: 5},
			"blocked":         {State: state, Attempt: 1, Blocked: 4},
			"with a lease":    {State: state, Attempt: 1, Lease: task.Lease{CPUMilli: 1000, GPUs: []string{"GPU-1"}}},
		} {
			got, err := r.lose(7, st)
			s := got.Status()
			if err != nil || s.State != task.Lost || s.EndedAt != 1000 || len(s.Lease.GPUs) > 0 || s.Outcome.Message == "" {
				t.Errorf("%s, %s: %+v, %v", name, state, s, err)
			}
			if state.Active() && s.Attempt != st.Attempt {
				t.Errorf("%s, %s: attempt %d became %d", name, state, st.Attempt, s.Attempt)
			}
		}
	}
	if got, err := r.lose(7, task.Status{}); err != nil || got.State() != task.Lost {
		t.Errorf("one of which nothing is known: %s, %v", got.State(), err)
	}
}
