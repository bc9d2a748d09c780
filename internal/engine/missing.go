package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Lacking is an Inventory that knows that no GPU will ever come.
type Lacking interface {
	// Missing says why no task that needs a GPU can ever start here; "" = one may.
	Missing() string
}

// Missing says why none of the backends that may have a task is there on this host: it
// waits until somebody puts one there, which it does not wait for otherwise. "" = one is
// there, even if it is down or full at the moment.
func (e *Engine) Missing(t task.Task) string {
	if t.Spec == nil || t.State() != task.Pending || t.Status().Held != "" {
		return ""
	}
	names := t.Spec.Backends
	if len(names) == 0 {
		names = e.classes[t.Spec.Class].Backends
	}
	var whys []string
	for _, n := range names {
		r, ok := e.backends[n]
		if !ok || t.Spec.Image != "" && !r.Image || t.Spec.Image == "" && !r.NoImage {
			continue // it is none for this task
		}
		why := e.absent(r, t)
		if why == "" {
			return ""
		}
		if !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
	}
	if whys == nil {
		return ""
	}
	return fmt.Sprintf("nothing on this host runs it: %s; it waits until that changes", strings.Join(whys, "; "))
}

// absent says why a backend is not there, or what it needs for the task; "" = all is.
func (e *Engine) absent(r Registration, t task.Task) string {
	if a, may := r.Backend.(Absentee); may && a.Absent() {
		return r.Backend.Down()
	}
	if l, may := e.gpus.(Lacking); may && r.Local && !t.Spec.Resources.GPURequest().None() {
		return l.Missing()
	}
	return ""
}
