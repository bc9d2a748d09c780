package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// boundEvery is how often the logs are looked at that inits write.
const boundEvery = time.Second

// boundLogs keeps the logs within bounds that inits write, while their containers run.
func (b *Backend) boundLogs(ctx context.Context) {
	tick := time.NewTicker(boundEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range b.logged() {
			if _, err := r.boundLog(); err != nil {
				r.uncut.Do(func() { b.opts.Logger.Warn("the output of a task cannot be cut", "task", r.ref.Seq, "error", err) })
			}
		}
	}
}

// logged returns the attempts whose inits write their logs.
func (b *Backend) logged() []*run {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*run
	for _, r := range b.runs {
		if r.logged && !r.ended {
			out = append(out, r)
		}
	}
	return out
}

// boundLog cuts the middle out of a log that has grown too large, and returns its size. Who
// looks after all logs does it, and who finishes one.
func (r *run) boundLog() (int64, error) {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	b, path := r.b, r.b.layout.LogPath(r.ref)
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("look at a log: %w", err)
	case st.Blocks*512 <= b.opts.LogCap+b.opts.LogCap/4:
		return st.Size, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if err := taskfiles.CutLog(int(f.Fd()), path, st.Size, b.opts.LogCap); err != nil {
		return st.Size, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return st.Size, nil
}
