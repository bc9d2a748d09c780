package engine

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// PauseClass keeps the waiting tasks of a class waiting. Once it has returned
// nothing of the class is placed any more; what was placed before starts and runs on.
// already says that the class was paused before; then the Pause is the earlier one.
func (e *Engine) PauseClass(ctx context.Context, class, by, reason string) (is task.Pause, already bool, err error) {
	a, err := e.ask(ctx, input{class: func(ctx context.Context) (classAnswer, error) {
		is, already, err := e.store.Pause(ctx, class, task.Pause{At: task.At(e.now()), By: by, Reason: reason})
		if err == nil && !already {
			e.log.Info("class was paused", keyClass, class, keyBy, by, keyReason, reason)
		}
		return classAnswer{is, already}, err
	}})
	return a.class.pause, a.class.before, err
}

// ResumeClass ends the pause of a class, whose tasks are then looked at at once. ok is
// false when the class was not paused.
func (e *Engine) ResumeClass(ctx context.Context, class, by string) (was task.Pause, ok bool, err error) {
	a, err := e.ask(ctx, input{class: func(ctx context.Context) (classAnswer, error) {
		was, ok, err := e.store.Resume(ctx, class)
		if err == nil && ok {
			e.log.Info("class was resumed", keyClass, class, keyBy, by, keySince, was.At.Time())
		}
		return classAnswer{was, ok}, err
	}})
	return a.class.pause, a.class.before, err
}

// classStep is something that is done about a class. The loop does it between two
// rounds, so that no round is under way that knows nothing of it.
type classStep func(context.Context) (classAnswer, error)

// classAnswer is what became of it.
type classAnswer struct {
	pause  task.Pause
	before bool // the class was paused before
}

// askedOfClasses does what was asked about classes, and returns the other asks.
func (e *Engine) askedOfClasses(ctx context.Context, asks []input) (others []input) {
	for _, in := range asks {
		if in.class == nil {
			others = append(others, in)
			continue
		}
		done, err := in.class(ctx)
		in.answer <- answer{class: done, err: err}
	}
	return others
}

// pauseOf returns why a class is paused: by itself, or by the class of which it is
// another name.
func pauseOf(paused map[string]task.Pause, names ...string) *task.Pause {
	for _, n := range names {
		if p, ok := paused[n]; ok {
			return &p
		}
	}
	return nil
}
