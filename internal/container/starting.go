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
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// startSlot waits until fewer than mostStarting containers are being started, and says whether
// the queue still is ours then. What was known of a container before is to be looked at again.
func (r *run) startSlot(ctx context.Context) (release func(), ok bool) {
	select {
	case r.b.starts <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	release = func() { <-r.b.starts }
	if r.b.opts.Confirm() != nil {
		release()
		return nil, false
	}
	return release, true
}

// unchanged says whether a container still is as it was seen.
func (r *run) unchanged(ctx context.Context, c docker.Container) bool {
	now, err := r.inspect(ctx)
	return err == nil && now.ID == c.ID && now.Phase == c.Phase && now.Started.Equal(c.Started) && now.Finished.Equal(c.Finished)
}

// madeBefore says whether an earlier try came so far that there is a container, or that its
// program may have begun in one that is not there any more.
func (r *run) madeBefore(ctx context.Context) (bool, error) {
	rec, err := containerinit.Read(r.b.record(r.ref))
	if err != nil || rec.Gone {
		return false, err
	}
	switch _, err := r.inspect(ctx); {
	case err == nil:
		r.tried = true
		return true, nil
	case !errors.Is(err, docker.ErrNoContainer):
		return false, err
	case rec.Claimed:
		r.begun, r.tried = true, true
	}
	return rec.Claimed, nil
}

// create makes the container. One that is there already is looked at instead.
func (r *run) create(ctx context.Context, t task.Task) (wait time.Duration, done, again bool) {
	release, ok := r.startSlot(ctx)
	if !ok {
		return lookAgain, false, false // another owner may do it
	}
	defer release()
	if r.b.engineNow() == (docker.Engine{}) {
		return idle, false, false // what a container is like depends on it
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	spec, refusal := r.spec(t)
	if refusal != nil {
		return r.notStarted(refusal.class, refusal.text)
	}
	switch err := r.prepare(ctx, t); {
	case err != nil && away(err):
		return lookAgain, false, false
	case err != nil:
		return r.notStarted(task.CouldNotStart, err.Error())
	}
	switch made, err := r.madeBefore(ctx); {
	case err != nil:
		return lookAgain, false, false
	case made:
		return 0, false, true
	}
	switch err := r.withInit(ctx, t, &spec); {
	case err != nil && away(err):
		return lookAgain, false, false
	case err != nil:
		return r.notStarted(task.CouldNotStart, err.Error())
	}
	if r.half.createdAt.IsZero() {
		r.half.createdAt = r.b.opts.Now()
	}
	failpoint.Here("container/before-create")
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
	never, err := r.neverStarted(ctx, t, c)
	switch {
	case err != nil:
		return lookAgain, false, false
	case !never:
		return r.halfStarted(c, stop)
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	}
	release, ok := r.startSlot(ctx)
	if !ok {
		return lookAgain, false, false
	}
	defer release()
	if !r.unchanged(ctx, c) {
		return 0, false, true
	}
	switch never, err = r.neverStarted(ctx, t, c); {
	case err != nil:
		return lookAgain, false, false
	case !never:
		return 0, false, true
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
	if err := r.forgetPlain(); err != nil {
		r.warn("cannot note that a container is started; will try again", err)
		return lookAgain, false, false
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
