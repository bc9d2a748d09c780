package backendtest

import (
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Begin starts an attempt whose script waits for it.
func (f *Fake) Begin(ref task.Ref) { f.with(ref, f.begin) }

// Exit ends an attempt as if its program had.
func (f *Fake) Exit(ref task.Ref, o task.Outcome, result task.Result) {
	f.with(ref, func(r *run) {
		if o.Node == "" {
			o.Node = f.node()
		}
		r.script.Result = result
		f.end(r, task.Event{Kind: task.EventExited, Unprompted: true, Outcome: o})
	})
}

// Vanish ends an attempt without anybody having seen how.
func (f *Fake) Vanish(ref task.Ref, why string) {
	f.with(ref, func(r *run) {
		f.end(r, task.Event{Kind: task.EventVanished, Class: task.Vanished, Text: why})
	})
}

// Note reports a word about the present state.
func (f *Fake) Note(ref task.Ref, text string) {
	f.with(ref, func(r *run) { f.note(r, task.Event{Kind: task.EventNoted, Text: text}) })
}

func (f *Fake) with(ref task.Ref, do func(*run)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.runs[ref]; r != nil {
		do(r)
	}
}

// Repeat reports all that is known once more, lost reports included.
func (f *Fake) Repeat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ref := range f.order {
		f.pending = append(f.pending, f.runs[ref].history...)
	}
	f.poke()
}

// LoseAll forgets everything, as a machine that was reinstalled. Reports on
// attempts that ran come as Vanished with the next Watch.
func (f *Fake) LoseAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runs {
		if r.timer != nil {
			r.timer.Stop()
		}
	}
	clear(f.runs)
	f.order = nil
}

// Begun returns how often each attempt began. A number above one means that
// somebody's work was done twice.
func (f *Fake) Begun() map[task.Ref]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.begun)
}

// Known lists the attempts that were handed over and not forgotten, in order.
func (f *Fake) Known() []task.Ref {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.order)
}

// Running lists the attempts that run, in the order in which they came.
func (f *Fake) Running() []task.Ref {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []task.Ref
	for _, ref := range f.order {
		if f.runs[ref].state == task.Running {
			out = append(out, ref)
		}
	}
	return out
}

// Close stops all timers. A test in a bubble calls it before it ends.
func (f *Fake) Close() { f.LoseAll() }
