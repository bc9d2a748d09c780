package container

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A container that has our init tells by its record whether its program was started, and
// how it ended. What its engine says counts where the record is silent: who was killed with
// the container could not write.

const (
	// unknownPause is between two looks at what runs without its engine's knowledge, and of
	// which therefore nobody tells.
	unknownPause = 500 * time.Millisecond
	// endingPause is between two looks at an init that has written down the end, and goes,
	// of which as a rule the engine tells sooner.
	endingPause = time.Second
)

// recorded decides about a container that has our init. There may be none any more: only
// its id is known then, if that. The program can spoil its record, or remove it: so what was
// seen to run has begun, whatever is there, and a stop and the time limit need no record.
func (r *run) recorded(ctx context.Context, t task.Task, c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	r.keep()
	rec, err := containerinit.Read(r.b.record(r.ref))
	if err != nil {
		r.warn("what the init of a container has written down cannot be read; will try again", err)
		return r.unread(ctx, t, c, stop)
	}
	if rec.Gone || r.seen(t) {
		rec.Claimed, rec.Withdrawn = true, false
	}
	running := c.Phase == docker.Running
	switch {
	case rec.End != nil && (rec.Alive || c.Phase != docker.Exited && len(r.b.procs.of(c.ID)) > 0):
		return r.lingering(ctx, t, c, rec, stop)
	case rec.End != nil:
		return r.recordedEnd(ctx, t, c, rec)
	case running && !rec.Begun() && !stop && r.b.opts.Now().Before(c.Started.Add(claimLimit)):
		if !rec.Claimed && r.claiming(ctx) {
			return r.recorded(ctx, t, c, stop)
		}
		return claimPatience, false, false
	case running:
		r.noteMain(c)
		r.tellStarted(c)
		return r.running(ctx, t, c, stop)
	case rec.Withdrawn:
		return r.withdrawn(stop)
	case !rec.Claimed:
		return r.notBegun(ctx, t, c, stop)
	case rec.Alive || len(r.b.procs.of(c.ID)) > 0:
		return r.unknown(t, c, rec, stop)
	case c.Phase == docker.Exited:
		r.tellStarted(c)
		return r.exited(ctx, t, c)
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	case c.Name == "":
		return 0, r.vanished(fmt.Sprintf("its container %s is not there any more: somebody removed it, or the engine lost it, while its program ran", r.name)), false
	case rec.Gone:
		return 0, r.vanished("the record of its container was removed, so nobody knows how far it had come"), false
	default:
		return 0, r.vanished("its container was killed while its container engine was, so nobody saw how far it had come"), false
	}
}

// seen says whether the program was seen to run.
func (r *run) seen(t task.Task) bool { return r.told >= toldStarted || t.Status().StartedAt != 0 }

// unread ends what is to be ended of a container whose record cannot be read now.
func (r *run) unread(ctx context.Context, t task.Task, c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	if c.Phase != docker.Running {
		return lookAgain, false, false
	}
	wait, done, again = r.running(ctx, t, c, stop)
	return min(wait, lookAgain), done, again
}

// lingering waits until nobody of a container lives whose end is written down: for a moment
// as a rule. A process may stay that cannot be killed while it waits for a device, and a
// program may have written an end itself.
func (r *run) lingering(ctx context.Context, t task.Task, c docker.Container, rec containerinit.Record, stop bool) (wait time.Duration, done, again bool) {
	if c.Phase != docker.Running {
		return r.unknown(t, c, rec, stop)
	}
	r.noteMain(c)
	r.tellStarted(c)
	wait, done, again = r.running(ctx, t, c, stop)
	return min(wait, endingPause), done, again
}

// recordedEnd reports the end that the init has written down.
func (r *run) recordedEnd(ctx context.Context, t task.Task, c docker.Container, rec containerinit.Record) (wait time.Duration, done, again bool) {
	e := rec.End
	c.Finished, c.ExitCode, c.OOM = e.At, e.Code, c.OOM || e.OOM
	if now := r.b.opts.Now(); c.Finished.IsZero() || c.Finished.After(now) {
		c.Finished = now
	}
	if !rec.At.IsZero() && (c.Started.IsZero() || c.Started.After(rec.At)) {
		c.Started = rec.At
	}
	if c.Started.IsZero() || c.Started.After(c.Finished) {
		c.Started = c.Finished
	}
	r.tellStarted(c)
	r.sure, r.own = true, !e.Asked
	if e.Dropped > 0 {
		r.warn("not all output of a task was kept", fmt.Errorf("%d bytes of it could not be written: its disk was full or broken, or no daemon made room", e.Dropped))
	}
	return r.exited(ctx, t, c)
}

// unknown follows what runs without its engine's knowledge: that was killed while it started
// it. Its end will be written down as that of others.
func (r *run) unknown(t task.Task, c docker.Container, rec containerinit.Record, stop bool) (wait time.Duration, done, again bool) {
	now := r.b.opts.Now()
	c.ID, c.Started = cmp.Or(c.ID, r.id), rec.At
	switch {
	case !r.since.IsZero():
		c.Started = r.since
	case rec.At.IsZero() || rec.At.After(now):
		c.Started = now
	}
	if r.told < toldStarted {
		r.b.opts.Logger.Warn("a container runs without its engine's knowledge, which was killed while it started it; it is followed to its end", "task", r.ref.Seq, "attempt", t.Attempt())
	}
	r.tellStarted(c)
	over := t.Spec.Timeout > 0 && !now.Before(c.Started.Add(t.Spec.Timeout))
	switch {
	case r.signal.sent() && now.Before(r.signal.At.Add(r.graceOf())):
	case r.signal.sent():
		r.endOrphans(c.ID)
	case stop || over:
		r.signal = signal{At: now, Cause: task.CauseCancel}
		if !stop {
			r.signal.Cause = task.CauseTimeout
		}
		if err := r.writeSignal(); err != nil {
			r.b.opts.Logger.Warn("cannot note that a container is being ended; it is ended all the same", "task", r.ref.Seq, "error", err)
		}
		r.askInit(c)
		if !stop {
			r.tellStopping()
		}
	}
	return unknownPause, false, false
}

// askInit sends the stop signal to the init of a container, past its engine.
func (r *run) askInit(c docker.Container) {
	sig := unix.SignalNum(cmp.Or(c.StopSignal, "SIGTERM"))
	if sig == 0 {
		sig = unix.SIGTERM
	}
	if r.b.opts.Confirm() != nil {
		return
	}
	for _, pid := range r.b.procs.of(c.ID) {
		if !r.b.procs.first(pid) {
			continue
		}
		if err := r.b.procs.signal(pid, c.ID, sig); err != nil {
			r.b.opts.Logger.Warn("cannot signal a process that its container engine does not know of", "task", r.ref.Seq, "pid", pid, "error", err)
		}
	}
}
