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

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// What was not claimed has not begun, and may be started as often as it takes.

const (
	// mostStarts is how often a container is started whose init does not come to claim it.
	mostStarts = 3
	// claimPatience is how long an init that runs may take to make its claim before the
	// engine is asked again; claimPause is between two looks.
	claimPatience = 50 * time.Millisecond
	claimPause    = 2 * time.Millisecond
	// claimLimit is how long it is believed of one that it is about to make its claim.
	claimLimit = 10 * time.Second
	// mostWords are kept of what an init says that could not do its work.
	mostWords = 300
)

// initTroubles are the exit codes of an init that did not come to its work: it says so, it
// ended by a fault of its own, or it could not be executed (the runtime's 1, 126 and 127).
// Of a container that was killed with its engine there are others.
var initTroubles = []int{containerinit.Cannot, 1, 2, 126, 127}

// cannotWithdraw is why an attempt that is not to begin has not ended.
const cannotWithdraw = "cannot note that an attempt is not to begin; will try again"

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
	}
	release, ok := r.startSlot(ctx)
	if !ok {
		return lookAgain, false, false
	}
	defer release()
	if !r.unchanged(ctx, c) {
		return 0, false, true
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
	r.begun, r.tried = false, false
	r.keepNot()
	return 0, false, true
}

// withdrawn reports the end of what has not begun, and never will.
func (r *run) withdrawn(stop bool) (wait time.Duration, done, again bool) {
	switch ok, err := containerinit.Withdraw(r.b.record(r.ref)); {
	case err != nil:
		r.warn(cannotWithdraw, err)
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
		r.warn(cannotWithdraw, err)
		return lookAgain, false, false
	case !ok:
		return 0, false, true
	}
	if err := r.notePlain(); err != nil {
		return r.notStarted(task.CouldNotStart, err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if err := r.b.engine.Remove(ctx, c.ID); err != nil && !errors.Is(err, docker.ErrNoContainer) {
		r.warn("a container that is to be made anew cannot be removed; will try again", err)
		return lookAgain, false, false
	}
	if err := os.RemoveAll(r.b.record(r.ref)); err != nil {
		return r.notStarted(task.CouldNotStart, err.Error())
	}
	r.b.opts.Logger.Warn("a container is made anew without our init, which could not work in it", "task", r.ref.Seq, "attempt", t.Attempt(), "reason", text)
	r.half, r.begun, r.tried = half{}, false, false
	r.keepNot()
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
