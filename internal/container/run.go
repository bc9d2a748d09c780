package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// callPatience is how long a call of the engine may take. Starting is the longest;
	// on a busy machine it takes seconds.
	callPatience = 2 * time.Minute
	// lookAgain is the pause after a call that failed without the engine being away.
	lookAgain = time.Second
	// repeatKill is how often a container that does not end is killed once more.
	repeatKill = 10 * time.Second
)

// run is one attempt, and how far it has come. Its goroutine looks at the container
// and does the next step, until the attempt has ended.
type run struct {
	b    *Backend
	ref  task.Ref
	name string
	id   string // of its container, as far as it is known

	// Guarded by the backend's mutex.
	task    task.Task
	whole   bool // the task has its environment and payload: it was handed over
	stop    bool // it is to be ended
	history []task.Change
	main    host.Process // of its container, while it runs
	ended   bool
	logged  bool          // its init writes its log, which we cut
	death   *int          // the exit code that the engine told of when it saw the end
	wake    chan struct{} // of capacity 1

	cutting sync.Mutex // one cuts the log at a time
	uncut   sync.Once  // that it cannot be cut was said

	// Of the goroutine alone.
	begun       bool // it was seen, or handed over for good: when it is not there, it is gone
	tried       bool // it was tried to start
	half        half
	told        told
	output      *output
	signal      signal
	killed      time.Time // when it was last killed by force
	oomAwait    bool      // the word about its memory was waited for
	kept        bool      // its container has our init, and so a record
	plain       bool      // it is made without, since that could not work
	unasked     bool      // that one was not asked to start
	since       time.Time // when it was started, as was told
	warned      map[string]bool
	sure        bool      // its init has written down how it ended
	own         bool      // nobody outside had asked its program to end, as its init knows
	outageUntil time.Time // how long is waited for the engine to go, or to remove it; zero = not yet
	deathAwait  bool      // that the engine tells of the end was waited for
}

// told is how much of an attempt was reported.
type told uint8

const (
	toldNothing told = iota
	toldLaunched
	toldStarted
	toldStopping
)

func newRun(b *Backend, t task.Task) *run {
	r := &run{
		b: b, ref: t.Ref(), name: nameOf(b.opts.QueueID, t.Ref()), id: ContainerID(t), task: t, whole: t.State() == task.Assigned,
		wake: make(chan struct{}, 1), warned: map[string]bool{},
	}
	if at := t.Status().StartedAt; at != 0 {
		r.since = at.Time()
	}
	return r
}

// give completes a task that is known without its environment. The mutex is held.
func (r *run) give(t task.Task) { r.task, r.whole = t, true; r.rouse() }

// rouse has the goroutine look.
func (r *run) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// heard is told of an event. The mutex is held.
func (r *run) heard(e docker.Event) {
	if code, yes := e.Died(); yes {
		r.death = &code
	}
	r.rouse()
}

func (r *run) over() bool {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.ended
}

// ends returns the end, if it was reported. The mutex is held.
func (r *run) ends() []task.Change {
	if !r.ended || len(r.history) == 0 {
		return nil
	}
	return r.history[len(r.history)-1:]
}

// state returns the task, and whether it is to be ended.
func (r *run) state() (t task.Task, whole, stop bool) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.task, r.whole, r.stop
}

// handed says that all is here that its container is made of.
func (r *run) handed() bool {
	_, whole, _ := r.state()
	return whole
}

// loop runs until the attempt has ended, or ctx does.
func (r *run) loop(ctx context.Context) {
	defer r.closeOutput()
	if r.over() {
		return
	}
	r.signal = r.readSignal()
	r.readPlain()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		wait, done := r.step(ctx)
		if done || ctx.Err() != nil {
			return
		}
		timer.Reset(wait)
	}
}

// idle is how long a run sleeps when only an event can bring something.
const idle = time.Hour

// step looks at the container, and does what is to be done next. wait is when to look
// again if no event comes first.
func (r *run) step(ctx context.Context) (wait time.Duration, done bool) {
	for {
		var again bool
		if wait, done, again = r.turn(ctx); !again || ctx.Err() != nil {
			return wait, done
		}
	}
}

// turn is one look. again asks for another one at once.
func (r *run) turn(ctx context.Context) (wait time.Duration, done, again bool) {
	t, whole, stop := r.state()
	if whole && !r.begun && !stop && !r.tried {
		return r.create(ctx, t)
	}
	c, err := r.inspect(ctx)
	switch {
	case errors.Is(err, docker.ErrNoContainer):
		return r.missing(ctx, t, stop)
	case err != nil:
		return lookAgain, false, false // the stream of events tells when the engine is back
	}
	if ref, ours := refOf(r.b.opts.QueueID, c.Labels); !ours || ref != r.ref {
		return r.notStarted(task.CouldNotStart, fmt.Sprintf("the name %s is taken by a container that is not ours (%.12s): remove or rename it", r.name, c.ID))
	}
	if c.Finished.Before(c.Started) && c.Phase == docker.Exited {
		c.Started = c.Finished // engines note the start of what ends at once after its end
	}
	if c.Labels[labelInit] != "" {
		r.id = c.ID
		return r.recorded(ctx, t, c, stop)
	}
	switch c.Phase {
	case docker.Created:
		return r.ready(ctx, t, c, stop)
	case docker.Running:
		r.noteMain(c)
		r.tellStarted(c)
		return r.running(ctx, t, c, stop)
	default:
		if c.Started.IsZero() {
			return r.ready(ctx, t, c, stop)
		}
		r.tellStarted(c)
		return r.exited(ctx, t, c)
	}
}

func (r *run) inspect(ctx context.Context) (docker.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return r.b.engine.Inspect(ctx, r.name)
}

// missing decides about an attempt that has no container.
func (r *run) missing(ctx context.Context, t task.Task, stop bool) (wait time.Duration, done, again bool) {
	rec, err := containerinit.Read(r.b.record(r.ref))
	switch {
	case r.begun && r.unasked && !stop:
		return r.lostBeforeItBegan(t)
	case r.begun && !r.unasked && (r.kept || !rec.Gone || err != nil):
		return r.recorded(ctx, t, docker.Container{ID: r.id}, stop)
	case r.begun:
		return r.gone(stop)
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	case r.handed(): // somebody had its name who is gone, or it was being made when the engine was killed
		r.tried = false
		return lookAgain, false, false
	default: // it is handed over before long; then it is made
		r.tried = false
		return idle, false, false
	}
}

// gone ends what is left of an attempt whose container is not there any more, and which has no
// record, and reports its end.
func (r *run) gone(stop bool) (wait time.Duration, done, again bool) {
	left := r.endOrphans(r.id)
	if left > 0 && r.half.until.IsZero() {
		r.half.until = r.b.opts.Now().Add(orphanLimit)
	}
	switch {
	case left > 0 && r.b.opts.Now().Before(r.half.until):
		return orphanPause, false, false
	case left == 0 && stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	default:
		return 0, r.vanished(fmt.Sprintf("its container %s is not there any more: somebody removed it, or the engine lost it, and with it how it ended%s", r.name, r.half.orphanText(left))), false
	}
}

func (r *run) now() task.Instant { return task.At(r.b.opts.Now()) }

// away says that a call came to nothing because the engine did, so that it is not
// known what became of it.
func away(err error) bool {
	return errors.Is(err, docker.ErrAway) || errors.Is(err, docker.ErrForbidden) || errors.Is(err, context.Canceled)
}
