package worker

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func (w *worker) count(c task.Change) {
	o := c.Event.Outcome
	if c.Event.Kind == task.EventExited && o.ExitCode == 0 && o.Signal == 0 && o.Class == task.NoFailure {
		w.sum.Succeeded++
		return
	}
	w.sum.Failed++
}

// doubtFor is how long after the end of a task by SIGTERM is seen whether this worker got
// one, too.
const doubtFor = 1500 * time.Millisecond

// doubtful counts an end, or holds it back where it may be the doing of who ends the job.
// The mutex is held.
func (w *worker) doubtful(h *held, c task.Change) {
	o := c.Event.Outcome
	if !w.InJob || h.stopped || h.cut || c.Event.Kind != task.EventExited || o.Signal != int(unix.SIGTERM) && o.ExitCode != 128+int(unix.SIGTERM) {
		w.count(c)
		return
	}
	h.doubt, h.dirty = w.Now(), false
}

// decide reports ends that were held back.
func (w *worker) decide() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.all {
		if h.doubt.IsZero() || !w.asked && w.Now().Sub(h.doubt) < doubtFor {
			continue
		}
		h.doubt, h.dirty = time.Time{}, true
		c := &h.changes[len(h.changes)-1]
		if w.asked {
			c.Event.Outcome.Class, c.Event.Outcome.Message = task.Preempted, "the job of its worker was ended; it is tried again"
		}
		w.count(*c)
		signal(w.report)
	}
}

// cutShort says of an attempt that was ended for want of time that it was preempted.
func (h *held) cutShort(c *task.Change) {
	if !h.cut || h.stopped || c.Event.Kind != task.EventStopped {
		return
	}
	ev := &c.Event
	ev.Kind, ev.Unprompted = task.EventExited, true
	ev.Outcome.Class, ev.Outcome.Message = task.Preempted, "the time of its worker was over; it is tried again"
}
