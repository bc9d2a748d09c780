package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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
	// mostStarts is how often a container is started whose init does not come to claim it.
	mostStarts = 3
	// claimPatience is how long an init that runs may take to make its claim before the
	// engine is asked again; claimPause is between two looks.
	claimPatience = 50 * time.Millisecond
	claimPause    = 2 * time.Millisecond
	// unknownPause is between two looks at what runs without its engine's knowledge, and of
	// which therefore nobody tells.
	unknownPause = 500 * time.Millisecond
	// endingPause is between two looks at an init that has written down the end, and goes,
	// of which as a rule the engine tells sooner.
	endingPause = time.Second
	// claimLimit is how long it is believed of one that it is about to make its claim.
	claimLimit = 10 * time.Second
	// mostWords are kept of what an init says that could not do its work.
	mostWords = 300
)

// initTroubles are the exit codes of an init that did not come to its work: it says so, it
// ended by a fault of its own, or it could not be executed (the runtime's 1, 126 and 127).
// Of a container that was killed with its engine there are others.
var initTroubles = []int{containerinit.Cannot, 1, 2, 126, 127}

// recorded decides about a container that has our init. There may be none any more: only
// its id is known then, if that.
func (r *run) recorded(ctx context.Context, t task.Task, c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	r.keep()
	rec, err := containerinit.Read(r.b.record(r.ref))
	if err != nil {
		r.b.opts.Logger.Warn("what the init of a container has written down cannot be read; will try again", "task", r.ref.Seq, "error", err)
		return lookAgain, false, false
	}
	running := c.Phase == docker.Running
	switch {
	case rec.End != nil && rec.Alive: // for a moment more; then the engine tells, if it can
		return endingPause, false, false
	case rec.End != nil:
		return r.recordedEnd(ctx, t, c, rec)
	case rec.Withdrawn:
		return r.withdrawn(stop)
	case running && !rec.Claimed && !stop && r.b.opts.Now().Before(c.Started.Add(claimLimit)):
		if r.claiming(ctx) {
			return r.recorded(ctx, t, c, stop)
		}
		return claimPatience, false, false
	case running:
		r.noteMain(c)
		r.tellStarted(c)
		return r.running(ctx, t, c, stop)
	case !rec.Claimed:
		return r.notBegun(ctx, t, c, stop)
	case rec.Alive || len(inhabitants(c.ID)) > 0:
		return r.unknown(t, c, rec, stop)
	case c.Phase == docker.Exited:
		r.tellStarted(c)
		return r.exited(ctx, t, c)
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	case c.Name == "":
		return 0, r.vanished(fmt.Sprintf("its container %s is not there any more: somebody removed it, or the engine lost it, while its program ran", r.name)), false
	default:
		return 0, r.vanished("its container was killed while its container engine was, so nobody saw how far it had come"), false
	}
}

// claiming waits for the claim of an init that has only just been started, and says whether
// it came.
func (r *run) claiming(ctx context.Context) bool {
	tick := time.NewTicker(claimPause)
	defer tick.Stop()
	for late := time.Now().Add(claimPatience); time.Now().Before(late); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		if rec, err := containerinit.Read(r.b.record(r.ref)); err == nil && rec.Claimed {
			return true
		}
	}
	return false
}

// notBegun starts a container whose init has not made its claim, as often as that takes: only
// one of them will.
func (r *run) notBegun(ctx context.Context, t task.Task, c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	code := cmp.Or(c.ExitCode, r.half.code)
	ended := c.Phase == docker.Exited && !c.Started.IsZero()
	switch {
	case c.Name == "" && !stop:
		return r.lostBeforeItBegan(t)
	case c.Name != "":
		r.begun = true
		r.tellLaunched(c.ID)
	}
	switch {
	case stop:
		return r.withdrawn(true)
	case slices.Contains(initTroubles, code):
		return r.withoutInit(ctx, t, c)
	case !ended && (c.Trouble != "" || code != 0):
		return r.couldNotStart(t, c)
	case r.half.starts >= mostStarts:
		return r.notStarted(task.CouldNotStart, fmt.Sprintf("the container engine has started it %d times, and each time it ended before its program began (exit code %d)", r.half.starts, code))
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
	if ended {
		r.half.starts++
	}
	return r.start(ctx)
}

// lostBeforeItBegan makes a container once more that its engine has lost.
func (r *run) lostBeforeItBegan(t task.Task) (wait time.Duration, done, again bool) {
	if !r.handed() || r.half.starts >= mostStarts {
		return r.notStarted(task.CouldNotStart, fmt.Sprintf("its container %s is not there any more: somebody removed it, or the engine lost it, before its program began", r.name))
	}
	r.b.opts.Logger.Warn("a container is not there any more, and its program has not begun; it is made again", "task", r.ref.Seq, "attempt", t.Attempt())
	r.half.starts++
	r.begun, r.tried, r.kept = false, false, false
	return 0, false, true
}

// withdrawn reports the end of what has not begun, and never will.
func (r *run) withdrawn(stop bool) (wait time.Duration, done, again bool) {
	switch ok, err := containerinit.Withdraw(r.b.record(r.ref)); {
	case err != nil:
		r.b.opts.Logger.Warn("cannot note that an attempt is not to begin; will try again", "task", r.ref.Seq, "error", err)
		return lookAgain, false, false
	case !ok:
		return 0, false, true // it has begun meanwhile
	case stop:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	default:
		return r.notStarted(task.CouldNotStart, cmp.Or(r.half.why, "it was decided not to start it, and the reason was not written down"))
	}
}

// withoutInit makes a container anew in which our init cannot work. It has not, so the
// program has not begun.
func (r *run) withoutInit(ctx context.Context, t task.Task, c docker.Container) (wait time.Duration, done, again bool) {
	text := "the init of its container could not do its work there: " + cmp.Or(c.Trouble, r.initWords(ctx), "it did not say why")
	if !r.handed() {
		return r.notStarted(task.CouldNotStart, text)
	}
	switch ok, err := containerinit.Withdraw(r.b.record(r.ref)); {
	case err != nil:
		return lookAgain, false, false
	case !ok:
		return 0, false, true
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if err := r.b.engine.Remove(ctx, c.ID); err != nil && !errors.Is(err, docker.ErrNoContainer) {
		return lookAgain, false, false
	}
	if err := os.RemoveAll(r.b.record(r.ref)); err != nil {
		return r.notStarted(task.CouldNotStart, err.Error())
	}
	r.b.opts.Logger.Warn("a container is made anew without our init, which could not work in it", "task", r.ref.Seq, "attempt", t.Attempt(), "reason", text)
	r.half, r.begun, r.tried, r.kept, r.plain = half{}, false, false, false, true
	return 0, false, true
}

// initWords is what an init said that could not do its work.
func (r *run) initWords(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	var said []byte
	take := func(e docker.Entry) error {
		said = append(said, e.Text[:min(len(e.Text), mostWords-len(said))]...)
		return nil
	}
	if err := r.b.engine.Logs(ctx, r.name, docker.LogOptions{}, take, func() error { return nil }); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(strings.TrimPrefix(string(said), "dspy-init: "))
}

// recordedEnd reports the end that the init has written down.
func (r *run) recordedEnd(ctx context.Context, t task.Task, c docker.Container, rec containerinit.Record) (wait time.Duration, done, again bool) {
	e := rec.End
	if c.Started.IsZero() || c.Started.After(rec.At) {
		c.Started = rec.At
	}
	c.Finished, c.ExitCode, c.OOM = e.At, e.Code, c.OOM || e.OOM
	r.tellStarted(c)
	r.sure, r.own = true, !e.Asked
	if e.Dropped > 0 {
		r.b.opts.Logger.Warn("not all output of a task was kept, for lack of room", "task", r.ref.Seq, "bytes", e.Dropped)
	}
	return r.exited(ctx, t, c)
}

// unknown follows what runs without its engine's knowledge: that was killed while it started
// it. Its end will be written down as that of others.
func (r *run) unknown(t task.Task, c docker.Container, rec containerinit.Record, stop bool) (wait time.Duration, done, again bool) {
	c.ID, c.Started = cmp.Or(c.ID, r.id), rec.At
	if r.told < toldStarted {
		r.b.opts.Logger.Warn("a container runs without its engine's knowledge, which was killed while it started it; it is followed to its end", "task", r.ref.Seq, "attempt", t.Attempt())
	}
	r.tellStarted(c)
	now := r.b.opts.Now()
	over := t.Spec.Timeout > 0 && !now.Before(rec.At.Add(t.Spec.Timeout))
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
	for _, pid := range inhabitants(c.ID) {
		if !isInit(pid) {
			continue
		}
		if err := signalInhabitant(pid, c.ID, sig); err != nil {
			r.b.opts.Logger.Warn("cannot signal a process that its container engine does not know of", "task", r.ref.Seq, "pid", pid, "error", err)
		}
	}
}
