package container

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An engine that is killed while it starts a container may come back and take it for one
// that was never started, while its program runs, or has run. To start that again would
// run it twice: the engine would even clear the first run away for it. So a container is
// started again only when it certainly has not run, or when the engine that was asked
// first still is the one that answers: it does one such thing after the other.

// half is what is known of a start that may have come to nothing.
type half struct {
	createdAt time.Time // when the engine was first asked to make the container
	made      bool      // it was made for us, and not found
	asked     bool      // the engine was asked to start it
	code      int       // why it could not, as an exit code; 0 = it was not said
	killed    int       // processes of it that the engine did not know of
	until     time.Time // how long to look for more of them
	starts    int       // how often it was started once more, or made once more
	why       string    // it is not to be started
}

const (
	// orphanPatience is how long processes are looked for that an engine does not know of:
	// what was asked of its runtime goes on when it is killed.
	orphanPatience = 3 * time.Second
	// orphanPause is between two looks.
	orphanPause = 200 * time.Millisecond
	// orphanLimit is how long they may take to die.
	orphanLimit = time.Minute
)

// neverStarted says whether a container that is said to have never run surely has not.
func (r *run) neverStarted(ctx context.Context, t task.Task, c docker.Container) (bool, error) {
	local := r.b.engine.Local()
	ours := r.half.made || local && !r.half.createdAt.IsZero() && !c.Created.Before(r.half.createdAt)
	switch {
	case t.State() >= task.Running || r.told >= toldStarted: // it was seen to run
		return false, nil
	case !r.half.until.IsZero(): // it was decided
		return false, nil
	case ours && !r.half.asked:
		return true, nil
	case r.b.engineNow().Podman: // which writes down each step
		return !local || len(r.b.procs.of(c.ID)) == 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	past, err := r.b.engine.Past(ctx, c.ID)
	if err != nil {
		return false, err
	}
	// An engine that knows of its making was not restarted since.
	if slices.ContainsFunc(past, func(e docker.Event) bool { return e.Action == "create" }) {
		return true, nil
	}
	if !local {
		return false, nil // what is looked for below was put there by us
	}
	// The folder that shows our files is made in the container right before its program.
	prepared, err := r.b.engine.Changed(ctx, c.ID, insideDir)
	return err == nil && !prepared, err
}

// halfStarted ends what may run in a container of which the engine knows nothing, and
// reports that nobody knows what it has done.
func (r *run) halfStarted(c docker.Container, stop bool) (wait time.Duration, done, again bool) {
	now := r.b.opts.Now()
	if r.half.until.IsZero() {
		r.half.until = now.Add(orphanPatience)
	}
	left := r.endOrphans(c.ID)
	switch {
	case now.Before(r.half.until) || left > 0 && now.Before(r.half.until.Add(orphanLimit)):
		return orphanPause, false, false
	case stop && left == 0:
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: r.now()}}), false
	default:
		return 0, r.vanished("its container engine was restarted or killed while it started the container, and does not know whether the program has run" + r.half.orphanText(left)), false
	}
}

// endOrphans ends the processes of a container that its engine does not know of, and
// returns how many there were.
func (r *run) endOrphans(id string) int {
	if !r.b.engine.Local() || r.b.opts.Confirm() != nil {
		return 0
	}
	pids := r.b.procs.of(id)
	r.half.killed = max(r.half.killed, len(pids))
	for _, pid := range pids {
		if err := r.b.procs.signal(pid, id, unix.SIGKILL); err != nil {
			r.b.opts.Logger.Warn("cannot end a process that its container engine does not know of", "task", r.ref.Seq, "pid", pid, "error", err)
		}
	}
	return len(pids)
}

// orphanText says what became of them.
func (h *half) orphanText(left int) string {
	switch {
	case left > 0:
		return fmt.Sprintf("; %d of its processes run and cannot be ended from here: end them before you try again", left)
	case h.killed > 0:
		return "; it was running, and was ended"
	default:
		return ""
	}
}
