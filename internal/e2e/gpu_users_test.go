package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/gpupool"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// grab is what a user's scheduler is told in TestTwoUsersOneGPU.
type grab struct {
	LockDir string
	Until   time.Time
	File    string // of its book
}

// grabbed is what came of it.
type grabbed struct {
	Had    int // how often it had the GPU
	Refuse int
	Both   string // that somebody else had it at the same time
}

func playGrab(input []byte) (any, error) {
	var g grab
	if err := json.Unmarshal(input, &g); err != nil {
		return nil, err
	}
	return g.run()
}

// blind are eyes that see nothing.
type blind struct{}

func (blind) Latest() (*gpu.Snapshot, time.Time) { return nil, time.Time{} }
func (blind) Changed() <-chan struct{}           { return nil }
func (blind) Events() []gpu.Event                { return nil }
func (blind) Down() string                       { return "" }
func (blind) Ask()                               {}

// run claims the GPU as often as it can. Whoever has it puts a file there that only one
// can make.
func (g grab) run() (out grabbed, err error) {
	self, err := host.Self()
	if err != nil {
		return out, err
	}
	p, err := gpupool.New(gpupool.Options{
		Eyes: blind{}, File: g.File, LockDir: g.LockDir, QueueID: fmt.Sprint("q", os.Getuid()), UID: os.Getuid(), Boot: self.Boot,
		Starter: func() host.Process { return self }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return out, err
	}
	mark := filepath.Join(g.LockDir, "in-use")
	for time.Now().Before(g.Until) {
		if why := p.Claim("t", []string{"GPU-1"}); why != "" {
			out.Refuse++
			continue
		}
		out.Had++
		f, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		switch {
		case errors.Is(err, fs.ErrExist):
			out.Both = fmt.Sprintf("uid %d was given it while it was in use", os.Getuid())
			return out, nil
		case err != nil:
			return out, err
		}
		if err := errors.Join(f.Close(), os.Remove(mark)); err != nil {
			return out, err
		}
		p.Hold(nil)
	}
	return out, nil
}

// TestTwoUsersOneGPU: the schedulers of two users that want one GPU, as fast as they can,
// never both have it, and each has it at times.
func TestTwoUsersOneGPU(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	const stranger = 65534
	root, err := os.MkdirTemp("", "gpus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	dirs := map[string]os.FileMode{root: 0o755, root + "/locks": 0o777 | os.ModeSticky, root + "/theirs": 0o777}
	for _, d := range []string{root, root + "/locks", root + "/theirs"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, dirs[d]); err != nil {
			t.Fatal(err)
		}
	}
	until := time.Now().Add(time.Duration(rounds(3, 60)) * time.Second)
	var ours, theirs grabbed
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if ours, err = (grab{root + "/locks", until, root + "/book"}).run(); err != nil {
			t.Error(err)
		}
	})
	theirs = playAs[grabbed](t, stranger, "grab", grab{root + "/locks", until, root + "/theirs/book"})
	wg.Wait()
	if ours.Both+theirs.Both != "" {
		t.Errorf("both had the GPU: %s %s", ours.Both, theirs.Both)
	}
	if ours.Had == 0 || theirs.Had == 0 {
		t.Errorf("one of them never had it: %+v, %+v", ours, theirs)
	}
	t.Logf("ours %+v, theirs %+v", ours, theirs)
}
