package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// outputs finds what tasks have printed.
type outputs struct{ process *process.Backend }

var _ api.Outputs = outputs{}

func (o outputs) Path(t task.Task, attempt int) string {
	return o.process.Layout().LogPath(task.Ref{Seq: t.Seq, Attempt: attempt})
}

func (o outputs) Open(t task.Task, attempt int) (api.Output, error) {
	f, err := os.Open(o.Path(t, attempt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, task.Errorf(task.CodeNotFound, "task %s has no output of attempt %d: it did not begin, or the output was removed", t.Spec.ID, attempt)
	}
	return output{f}, err
}

type output struct{ *os.File }

func (f output) Wait(ctx context.Context, offset int64) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		st, err := f.Stat()
		if err != nil || st.Size() > offset {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (f output) TailOffset(n int) (int64, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return 0, err
	}
	i := len(bytes.TrimSuffix(b, []byte("\n")))
	for ; n > 0 && i >= 0; n-- {
		i = bytes.LastIndexByte(b[:i], '\n')
	}
	return int64(i + 1), nil
}
