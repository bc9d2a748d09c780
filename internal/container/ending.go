package container

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// oomPatience is how long the engine's word about a lack of memory may come after its
// word about the end: the kernel tells it of both by different ways.
const oomPatience = 300 * time.Millisecond

// killedCode is the exit code of what ended by SIGKILL.
const killedCode = 128 + int(syscall.SIGKILL)

// exited reports the end of a container that has run.
func (r *run) exited(ctx context.Context, t task.Task, c docker.Container) (wait time.Duration, done, again bool) {
	if c.ExitCode == killedCode && !c.OOM && !r.signal.sent() && t.Spec.Resources.MemBytes > 0 && !r.oomAwait {
		r.oomAwait = true
		return oomPatience, false, false
	}
	c, seen, err := r.witnessed(ctx, c)
	switch {
	case err != nil:
		return lookAgain, false, false
	case !seen && !r.deathAwait:
		r.deathAwait = true
		return deathPatience, false, false
	}
	if killedByOthers(c) && !r.own && !r.signal.sent() && !r.b.endedWithEngine(c) {
		if left := r.outageLeft(); left > 0 {
			return left, false, false
		}
	}
	size, err := r.finishOutput(ctx)
	if err != nil {
		if !away(err) {
			r.b.opts.Logger.Warn("cannot read the output of a container to its end; will try again", "task", r.ref.Seq, "error", err)
		}
		return lookAgain, false, false
	}
	if !seen {
		return 0, r.endUnseen(c), false
	}
	o := r.outcome(t, c)
	at := task.At(c.Finished)
	if r.prompted(c) {
		if r.signal.Cause == task.CauseTimeout {
			r.tellStopping()
		}
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: at, Outcome: o}}), false
	}
	if text := r.lostSightText(t); text != "" && o.ExitCode != 0 && (o.Class == task.NoFailure || o.Class == task.UserError) {
		o.Class, o.Message = task.GPULost, text
	}
	res, err := r.result(ctx, size, &o)
	if err != nil {
		return lookAgain, false, false
	}
	return 0, r.end(task.Change{Event: task.Event{Kind: task.EventExited, At: at, Outcome: o, Unprompted: true}, Result: res}), false
}

// prompted says that our signal had been sent when the program ended.
func (r *run) prompted(c docker.Container) bool {
	if !r.signal.sent() {
		return false
	}
	// Two clocks say nothing about which was first.
	return !r.b.engine.Local() || !c.Finished.Before(r.signal.At)
}

// outcome puts how a container ended into our words.
func (r *run) outcome(t task.Task, c docker.Container) task.Outcome {
	o := task.Outcome{ExitCode: c.ExitCode, Node: r.node()}
	switch {
	case c.OOM && c.ExitCode != 0:
		o.Class = task.OutOfMemory
		o.Message = "killed because its memory limit" + limitText(t.Spec.Resources.MemBytes) + " was reached"
	case !r.signal.sent() && !r.own && r.b.endedWithEngine(c):
		o.Class = task.NodeLost
		o.Message = fmt.Sprintf("ended by the container engine, which was restarted or stopped (exit code %d); with \"live-restore\" in its configuration containers outlive that", c.ExitCode)
	case c.ExitCode == 127 || c.ExitCode == 126:
		o.Class, o.Message = task.UserError, noProgramText(t, c.ExitCode)
	case c.ExitCode > 128 && c.ExitCode <= 128+64:
		sig := syscall.Signal(c.ExitCode - 128)
		o.Message = fmt.Sprintf("ended with exit code %d, which as a rule is signal %d (%s)", c.ExitCode, int(sig), sig)
	}
	return o
}

func limitText(bytes int64) string {
	if bytes <= 0 {
		return ""
	}
	return fmt.Sprintf(" of %d MiB", bytes>>20)
}

// noProgramText speaks of the exit codes that shells, inits and engines use alike.
func noProgramText(t task.Task, code int) string {
	program := "its program"
	if len(t.Spec.Argv) > 0 {
		program = fmt.Sprintf("%q", t.Spec.Argv[0])
	}
	if code == 126 {
		return fmt.Sprintf("ended with exit code 126: %s in image %s cannot be executed", program, t.Spec.Image)
	}
	return fmt.Sprintf("ended with exit code 127: %s was not found in image %s", program, t.Spec.Image)
}

// couldNotStart reports the end of a container that was started in vain.
func (r *run) couldNotStart(t task.Task, c docker.Container) (wait time.Duration, done, again bool) {
	if c.ExitCode == 127 || c.ExitCode == 126 {
		o := r.outcome(t, c)
		return 0, r.end(task.Change{Event: task.Event{Kind: task.EventExited, At: r.now(), Outcome: o, Unprompted: true}}), false
	}
	if text := r.gpuTrouble(c.Kind, c.Trouble); text != "" {
		return r.notStarted(task.CouldNotStart, text)
	}
	return r.notStarted(task.CouldNotStart, "the container engine could not start it: "+c.Trouble)
}

// result reads what the program gave back. An error says that it may be there, and
// cannot be read now.
func (r *run) result(ctx context.Context, size int64, o *task.Outcome) (task.Result, error) {
	if err := r.fetchResult(ctx); err != nil {
		return nil, err
	}
	res, err := taskfiles.ReadResultOf(r.b.resultPath(r.ref), r.b.layout.LogPath(r.ref), size, r.b.opts.ResultLimit)
	switch {
	case err == nil:
		return res, nil
	case errors.Is(err, taskfiles.ErrUnread):
		r.b.opts.Logger.Warn("the result of a task cannot be read; will try again", "task", r.ref.Seq, "error", err)
		return nil, err
	case o.ExitCode == 0:
		o.Class, o.Message = task.UserError, "ended with exit code 0, but "+err.Error()
	}
	return nil, nil
}
