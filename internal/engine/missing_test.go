package engine_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// away is a backend that a machine may do without, and does.
type away struct{ *backendtest.Fake }

func (away) Absent() bool { return true }
func (away) Down() string { return "it is not installed here" }

// TestMissing: only where no backend that may have a task is there is it told that nothing
// runs it; one that is down is waited for.
func TestMissing(t *testing.T) {
	inBubble(t, settings{other: "there"}, func(w *world) {
		w.second.SetDown("for a moment")
		e, err := engine.New(engine.Options{
			Store: w.store, Wake: make(chan struct{}), Logger: slog.New(slog.DiscardHandler), Capacity: scheduler.Capacity{CPUMilli: 1000},
			Backends: []engine.Registration{{Backend: away{w.fake}, NoImage: true, Image: true}, {Backend: w.second, NoImage: true}},
			Classes: map[string]engine.Class{
				"only": {Name: "only", Backends: []string{"fake"}}, "either": {Name: "either", Backends: []string{"fake", "there"}},
			},
		})
		must(t, err)
		for _, c := range []struct{ class, image, want string }{
			{"only", "", "it is not installed here"}, {"either", "", ""}, {"either", "alpine", "it is not installed here"},
		} {
			got := e.Missing(task.New(1, &task.Spec{Class: c.class, Image: c.image}, 0))
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("class %s, image %q: %q", c.class, c.image, got)
			}
		}
	})
}
