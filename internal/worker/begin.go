package worker

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// beginLoop begins what there is room for.
func (w *worker) beginLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.work:
		}
		if begun := w.claim(); len(begun) > 0 {
			if err := w.Runner.Launch(ctx, begun); err != nil {
				w.couldNot(begun, err)
			}
		}
	}
}

// claim claims the next attempts for which there is room.
func (w *worker) claim() (begun []task.Task) {
	for {
		h := w.next()
		if h == nil {
			return begun
		}
		ok, err := w.Folder.Claim(h.task.Ref(), h.lease)
		w.mu.Lock()
		switch {
		case ok:
			begun = append(begun, h.task)
		case err != nil:
			w.Logger.Warn("a task cannot be claimed, and is given back", "task", h.task.Spec.ID, "error", err)
			w.leave(h)
			w.giveBack(h)
			w.failed = w.Now()
		default: // it was given on
			w.leave(h)
			delete(w.all, h.task.Ref())
		}
		w.mu.Unlock()
	}
}

// next takes the first attempt out of the line if there is room for it.
func (w *worker) next() *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 || w.ending != "" {
		return nil
	}
	h := w.queue[0]
	gpus, ok := w.room.begin(h.task, w.rate.per(beginAhead, w.Now()))
	if !ok {
		return nil
	}
	w.queue = w.queue[1:]
	h.gpus, h.claimed = gpus, true
	if len(w.GPUs) > 0 {
		h.task.Spec.Env = showGPUs(h.task.Spec.Env, gpus)
	}
	return h
}

// leave gives back the room of an attempt. The mutex is held.
func (w *worker) leave(h *held) {
	w.room.end(h.task, h.gpus)
	h.gpus, h.claimed = nil, false
	signal(w.work)
	signal(w.moved)
}

// couldNot ends attempts that the runner did not take.
func (w *worker) couldNot(tasks []task.Task, err error) {
	w.Logger.Warn("tasks could not be started", "tasks", len(tasks), "error", err)
	changes := make([]task.Change, len(tasks))
	for i, t := range tasks {
		changes[i] = task.Change{Seq: t.Seq, Event: task.Event{
			Kind: task.EventNotStarted, At: task.At(w.Now()), Attempt: t.Attempt(), Class: task.CouldNotStart, Text: "its worker could not start it: " + err.Error(),
		}}
	}
	w.sink(changes)
}
