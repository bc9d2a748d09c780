package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/failpoint"
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
	return &run{b: b, ref: t.Ref(), name: nameOf(b.opts.QueueID, t.Ref()), task: t, whole: t.State() == task.Assigned, wake: make(chan struct{}, 1)}
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
	if rec, err := containerinit.Read(r.b.record(r.ref)); r.begun && (r.kept || rec.Claimed || err != nil) {
		return r.recorded(ctx, t, docker.Container{ID: r.id}, stop)
	}
	switch {
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	case r.begun:
		left := r.endOrphans(r.id)
		if left > 0 && r.half.until.IsZero() {
			r.half.until = r.b.opts.Now().Add(orphanLimit)
		}
		if left > 0 && r.b.opts.Now().Before(r.half.until) {
			return orphanPause, false, false
		}
		return 0, r.vanished(fmt.Sprintf("its container %s is not there any more: somebody removed it, or the engine lost it, and with it how it ended%s", r.name, r.half.orphanText(left))), false
	case r.handed(): // somebody had its name who is gone, or it was being made when the engine was killed
		r.tried = false
		return lookAgain, false, false
	default: // it is handed over before long; then it is made
		r.tried = false
		return idle, false, false
	}
}

// create makes the container. One that is there already is looked at instead.
func (r *run) create(ctx context.Context, t task.Task) (wait time.Duration, done, again bool) {
	select {
	case r.b.starts <- struct{}{}:
		defer func() { <-r.b.starts }()
	case <-ctx.Done():
		return 0, false, false
	}
	if r.b.engineNow() == (docker.Engine{}) {
		return idle, false, false // what a container is like depends on it
	}
	if err := r.b.opts.Confirm(); err != nil {
		return lookAgain, false, false // another owner may do it
	}
	spec, refusal := r.spec(t)
	if refusal != nil {
		return r.notStarted(refusal.class, refusal.text)
	}
	if err := r.b.prepare(t); err != nil {
		return r.notStarted(task.CouldNotStart, err.Error())
	}
	if err := r.withInit(ctx, t, &spec); err != nil {
		return lookAgain, false, false
	}
	if r.half.createdAt.IsZero() {
		r.half.createdAt = r.b.opts.Now()
	}
	failpoint.Here("container/before-create")
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	id, err := r.b.engine.Create(ctx, spec)
	failpoint.Here("container/after-create")
	switch {
	case err == nil:
		r.begun, r.half.made = true, true
		if spec.Labels[labelInit] != "" {
			r.keep()
		}
		r.tellLaunched(id)
		return r.sendAndStart(ctx, t)
	case errors.Is(err, docker.ErrNameTaken):
		r.tried = true
		return 0, false, true
	case away(err):
		return lookAgain, false, false
	case errors.Is(err, docker.ErrNoImage):
		r.b.images.lost(t.Spec.Image)
		return r.notStarted(task.ImageTrouble, fmt.Sprintf("the image %s was removed before the container could be made", t.Spec.Image))
	case errors.Is(err, docker.ErrInvalid):
		return r.notStarted(task.UserError, "the container engine refuses the container: "+docker.Words(err))
	default:
		return r.notStarted(task.CouldNotStart, "the container cannot be made: "+docker.Words(err))
	}
}

// ready is for a container that has never run: it is started, unless it is to be
// ended, or could not be started.
func (r *run) ready(ctx context.Context, t task.Task, c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	r.begun = true
	r.tellLaunched(c.ID)
	c.ExitCode = cmp.Or(c.ExitCode, r.half.code) // Podman says it in its answer alone
	if c.Trouble != "" || c.ExitCode != 0 {
		return r.couldNotStart(t, c)
	}
	switch never, err := r.neverStarted(ctx, t, c); {
	case err != nil:
		return lookAgain, false, false
	case !never:
		return r.halfStarted(c, stop)
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	case r.b.opts.Confirm() != nil:
		return lookAgain, false, false
	}
	select {
	case r.b.starts <- struct{}{}:
		defer func() { <-r.b.starts }()
	case <-ctx.Done():
		return 0, false, false
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if _, whole, _ := r.state(); whole { // its files may not have come over
		return r.sendAndStart(ctx, t)
	}
	return r.start(ctx)
}

// sendAndStart starts a container that has its files.
func (r *run) sendAndStart(ctx context.Context, t task.Task) (wait time.Duration, done, again bool) {
	switch err := r.send(ctx, t); {
	case err == nil:
		return r.start(ctx)
	case away(err):
		return lookAgain, false, false
	default:
		return r.notStarted(task.CouldNotStart, "its files cannot be put into the container: "+docker.Words(err))
	}
}

// start starts the container, for the one and only time.
func (r *run) start(ctx context.Context) (wait time.Duration, done, again bool) {
	if _, _, stop := r.state(); stop {
		return 0, false, true
	}
	failpoint.Here("container/before-start")
	before := r.half.asked
	r.half.asked = true
	err := r.b.engine.Start(ctx, r.name)
	failpoint.Here("container/after-start")
	switch {
	case errors.Is(err, docker.ErrUnsent):
		r.half.asked = before
		return lookAgain, false, false
	case errors.Is(err, docker.ErrNoProgram):
		r.half.code = 127
		return 0, false, true
	case errors.Is(err, docker.ErrNotExecutable):
		r.half.code = 126
		return 0, false, true
	case err == nil, errors.Is(err, docker.ErrNoContainer):
		return 0, false, true // the container itself says more
	case away(err):
		return lookAgain, false, false
	case errors.Is(err, docker.ErrNoGPUs), errors.Is(err, docker.ErrGPU):
		return r.notStarted(task.CouldNotStart, r.gpuTrouble(err, docker.Words(err)))
	case errors.Is(err, docker.ErrInvalid):
		return r.notStarted(task.UserError, "the container engine cannot start it: "+docker.Words(err))
	default:
		return r.notStarted(task.CouldNotStart, "the container engine cannot start it: "+docker.Words(err))
	}
}

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

func (r *run) now() task.Instant { return task.At(r.b.opts.Now()) }

// away says that a call came to nothing because the engine did, so that it is not
// known what became of it.
func away(err error) bool {
	return errors.Is(err, docker.ErrAway) || errors.Is(err, docker.ErrForbidden) || errors.Is(err, context.Canceled)
}
