package engine_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// notes is a Meter that writes down what it is told.
type notes struct {
	mu   sync.Mutex
	said []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, fmt.Sprintf(format, args...))
}

func (n *notes) Waited(class string, d time.Duration) { n.add("%s waited %s", class, d) }
func (n *notes) Dispatched(d time.Duration)           { n.add("dispatched in %s", d) }
func (n *notes) Ran(class string, s task.State, f task.FailureClass, d time.Duration) {
	n.add("%s ran %s: %s %s", class, d, s, f)
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.said)
	slices.Sort(want)
	if !slices.Equal(n.said, want) {
		t.Errorf("the meter was told\n%q, want\n%q", n.said, want)
	}
	n.said = nil
}

func TestMeter(t *testing.T) {
	n := &notes{}
	inBubble(t, settings{cpus: 1, meter: n}, func(w *world) {
		w.submit(job("a", `{"run_ms": 100}`), job("b", `{"run_ms": 200}`), job("c", `{"run_ms": 10}`, after("b", task.AfterOK)))
		w.pass(time.Second)
		w.want("c", task.Succeeded)
		n.want(t, "c waited 0s", "c waited 100ms", "dispatched in 0s", "dispatched in 0s", "dispatched in 0s",
			"c ran 100ms: succeeded ", "c ran 200ms: succeeded ", "c ran 10ms: succeeded ")
	})
}

// TestMeterOfAttempts follows a task whose first attempt fails, and one that is
// cancelled while it runs.
func TestMeterOfAttempts(t *testing.T) {
	n := &notes{}
	inBubble(t, settings{meter: n}, func(w *world) {
		w.submit(job("a", `{"run_ms": 50, "exit": 1}`, retries(1)), job("b", `{"hang": true}`))
		w.pass(50 * time.Millisecond)
		n.want(t, "c waited 0s", "c waited 0s", "dispatched in 0s", "dispatched in 0s", "c ran 50ms: failed user_error")
		w.cancel("b")
		w.want("b", task.Cancelled)
		n.want(t, "c ran 50ms: cancelled ")
		w.pass(time.Minute) // the pause before the retry is no waiting for a turn
		w.want("a", task.Failed)
		n.want(t, "c waited 0s", "dispatched in 0s", "c ran 50ms: failed user_error")
	})
}
