package app

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// housekeepEvery is how often retention looks for something to remove. Each look
// is bounded, and goes on at once while there is more.
const housekeepEvery = time.Minute

// housekeeper removes what retention no longer keeps, the output files of the
// removed tasks included.
type housekeeper struct {
	queue *queue.Queue
	paths func(task.Ref) []string // the files of an attempt
	log   *slog.Logger
}

// run works until ctx ends.
func (h *housekeeper) run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		more, err := h.once(ctx)
		if err != nil && ctx.Err() == nil {
			h.log.Error("old tasks could not be removed; will try again", "error", err)
		}
		if more && err == nil {
			t.Reset(0)
			continue
		}
		t.Reset(housekeepEvery)
	}
}

// once removes a bounded number of tasks. The record goes first: a file without
// a record is litter, a record without its file would be a lie.
func (h *housekeeper) once(ctx context.Context) (more bool, err error) {
	removed, more, err := h.queue.Expire(ctx, task.At(time.Now()))
	if err != nil {
		return false, err
	}
	for _, ref := range removed {
		for n := 1; n <= ref.Attempt; n++ {
			for _, path := range h.paths(task.Ref{Seq: ref.Seq, Attempt: n}) {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					h.log.Warn("a file of a removed task could not be removed", "path", path, "error", err)
				}
			}
		}
	}
	if len(removed) > 0 {
		h.log.Info("removed old tasks", "tasks", len(removed))
	}
	return more, nil
}
