package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// told is how much of an attempt the sink has heard.
type told uint8

const (
	toldNothing told = iota
	toldRunning
	toldStopping
	toldEnd
)

// changes turns a report into the events that lead there. A report is a state;
// what was told already is left out, and telling it again would do no harm.
func (b *Backend) changes(dst []task.Change, o *origin, r *supervisorpb.Report, before told) ([]task.Change, told) {
	ref := refOf(r.GetName())
	add := func(ev task.Event) {
		ev.Attempt = ref.Attempt
		dst = append(dst, task.Change{Seq: ref.Seq, Event: ev})
	}
	if r.GetPid() != 0 && before < toldRunning {
		at := task.Instant(r.GetStartedAt())
		add(task.Event{Kind: task.EventLaunched, At: at, Handle: o.handleOf(r).encode()})
		add(task.Event{Kind: task.EventStarted, At: at})
		before = toldRunning
	}
	end := r.GetEnd()
	// A time limit that struck is ours to tell; a stop that was asked for is known.
	if r.GetCause() == supervisorpb.StopCause_STOP_CAUSE_TIMEOUT && before < toldStopping && !end.GetUnprompted() {
		add(task.Event{Kind: task.EventStopping, At: task.Instant(r.GetStoppingAt()), Cause: task.CauseTimeout})
		before = toldStopping
	}
	if r.GetPhase() != supervisorpb.Report_PHASE_ENDED || before == toldEnd {
		return dst, before
	}
	c, err := b.ending(o, ref, r)
	if err != nil {
		b.unread.keep(ref, o, r)
		return dst, before
	}
	c.Event.Attempt = ref.Attempt
	if r.GetPid() == 0 && (c.Event.Kind == task.EventExited) {
		// It failed before there was a process; the table wants it handed over first.
		add(task.Event{Kind: task.EventLaunched, At: c.Event.At, Handle: o.handleOf(r).encode()})
	}
	return append(dst, c), toldEnd
}

// ending is the change that ends an attempt. An error means that its result may
// be there and cannot be read now.
func (b *Backend) ending(o *origin, ref task.Ref, r *supervisorpb.Report) (c task.Change, err error) {
	end := r.GetEnd()
	c = task.Change{Seq: ref.Seq, Event: task.Event{At: task.Instant(end.GetAt()), Outcome: outcomeOf(end, o.where.Name)}}
	ev := &c.Event
	stopped := r.GetCause() != supervisorpb.StopCause_STOP_CAUSE_UNSPECIFIED
	switch kind := end.GetKind(); {
	case kind == supervisorpb.End_KIND_NOT_BEGUN && b.hasOutput(ref):
		ev.Kind, ev.Class, ev.Text = task.EventVanished, task.Vanished, o.lostText()
	case kind == supervisorpb.End_KIND_NOT_BEGUN:
		ev.Kind = task.EventStopped
	case kind == supervisorpb.End_KIND_NOT_STARTED:
		ev.Kind, ev.Class, ev.Text = task.EventNotStarted, task.CouldNotStart, end.GetMessage()
	case kind == supervisorpb.End_KIND_VANISHED && stopped && !end.GetUnprompted():
		// We had signalled it, and it is gone: that is what was wanted. (Unprompted,
		// it was gone before; then changes has not told of the stop either.)
		ev.Kind = task.EventStopped
	case kind == supervisorpb.End_KIND_VANISHED:
		ev.Kind, ev.Class, ev.Text = task.EventVanished, task.Vanished, end.GetMessage()
	case stopped && !end.GetUnprompted():
		ev.Kind = task.EventStopped
	case kind == supervisorpb.End_KIND_EXITED:
		ev.Kind, ev.Unprompted = task.EventExited, true
		c.Result, err = b.takeResult(ref, end, &ev.Outcome)
	default: // least of all a success
		ev.Kind, ev.Class = task.EventVanished, task.Vanished
		ev.Text = fmt.Sprintf("ended on %s in a way that only a newer release can tell (%d)", o.where.Name, kind)
	}
	return c, err
}

// hasOutput says whether there may be the file for the output of an attempt, which
// is made just before it begins. Then it did not end before that, whatever a
// supervisor says that never heard of it. Where one cannot look, there may be.
func (b *Backend) hasOutput(ref task.Ref) bool {
	_, err := os.Lstat(b.layout.LogPath(ref))
	return !errors.Is(err, fs.ErrNotExist)
}

// takeResult reads the result. One that cannot be taken fails the attempt: to
// drop it in silence would be worse. One that cannot be read now is an error.
func (b *Backend) takeResult(ref task.Ref, end *supervisorpb.End, o *task.Outcome) (task.Result, error) {
	if o.Signal == 0 && (o.ExitCode == 126 || o.ExitCode == 127) && o.Message != "" {
		return nil, nil // it never ran
	}
	res, err := taskfiles.ReadResult(b.layout, ref, end.GetLogBytes(), b.opts.ResultLimit)
	if errors.Is(err, taskfiles.ErrUnread) {
		return nil, b.unreadResult(ref, err, o)
	}
	b.unread.drop(ref)
	if err == nil {
		return res, nil
	}
	if o.ExitCode == 0 && o.Signal == 0 {
		o.Class = task.UserError
		o.Message = "ended with exit code 0, but " + err.Error()
	}
	return nil, nil
}

func outcomeOf(end *supervisorpb.End, host string) task.Outcome {
	o := task.Outcome{
		ExitCode: int(end.GetExitCode()), Signal: int(end.GetSignal()), Message: end.GetMessage(),
		Node: host, MaxRSS: end.GetMaxRss(), CPUTime: time.Duration(end.GetCpuNs()),
	}
	switch {
	case end.GetOutOfMemory():
		o.Class = task.OutOfMemory
	case end.GetKind() == supervisorpb.End_KIND_EXITED && o.Message != "":
		o.Class = task.UserError
	}
	return o
}
