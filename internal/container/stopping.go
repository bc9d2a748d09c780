package container

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// running follows the output, and ends what is to be ended.
func (r *run) running(ctx context.Context, t task.Task, c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	if !r.kept {
		r.follow(ctx)
	}
	now := r.b.opts.Now()
	limit := t.Spec.Timeout
	over := limit > 0 && !now.Before(c.Started.Add(limit))
	switch {
	case r.signal.sent():
		return r.press(ctx, t, now)
	case stop:
		return r.signalFirst(ctx, c, task.CauseCancel)
	case over:
		return r.signalFirst(ctx, c, task.CauseTimeout)
	case limit > 0:
		return min(c.Started.Add(limit).Sub(now), idle), false, false
	default:
		return idle, false, false
	}
}

// signalFirst asks the program to end.
func (r *run) signalFirst(ctx context.Context, c docker.Container, why task.Cause) (wait time.Duration, done, again bool) {
	r.signal = signal{At: r.b.opts.Now(), Cause: why}
	if err := r.writeSignal(); err != nil {
		r.b.opts.Logger.Warn("cannot note that a container is being ended; it is ended all the same", "task", r.ref.Seq, "error", err)
	}
	failpoint.Here("container/before-signal")
	if again := r.kill(ctx, cmp.Or(c.StopSignal, "SIGTERM")); again {
		return 0, false, true
	}
	if why == task.CauseTimeout {
		r.tellStopping()
	}
	return r.graceOf(), false, false
}

// kill sends a signal. unsent says that there was nobody to send it to, or that it
// could not be sent: the container is to be looked at again.
func (r *run) kill(ctx context.Context, sig string) (unsent bool) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	err := r.b.engine.Kill(ctx, r.name, sig)
	switch {
	case err == nil:
		return false
	case errors.Is(err, docker.ErrNotRunning), errors.Is(err, docker.ErrNoContainer):
		if r.killed.IsZero() {
			r.takeBackSignal() // it had ended by itself
		}
		return true
	default:
		return false // it may have been sent; if not, it is sent again after the grace
	}
}

func (r *run) graceOf() time.Duration {
	t, _, _ := r.state()
	return cmp.Or(t.Spec.Grace, task.DefaultGrace)
}

// press kills by force what has had its grace.
func (r *run) press(ctx context.Context, _ task.Task, now time.Time) (wait time.Duration, done, again bool) {
	if r.signal.Cause == task.CauseTimeout {
		r.tellStopping()
	}
	if left := r.signal.At.Add(r.graceOf()).Sub(now); left > 0 && left <= r.graceOf() {
		return left, false, false
	}
	if left := r.killed.Add(repeatKill).Sub(now); !r.killed.IsZero() && left > 0 {
		return left, false, false
	}
	r.killed = now
	if r.kill(ctx, "SIGKILL") {
		return 0, false, true
	}
	return repeatKill, false, false
}
