package container

import (
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// Who looks after all logs and who finishes one do not cut the same at a time: they would
// write down what they cut over one another.
//
//nolint:paralleltest // it watches how files are opened
func TestLogIsCutByOneAtATime(t *testing.T) {
	s := newStage(t, task.Running, task.Spec{})
	s.b.opts.LogCap = 64 << 10
	must(t, os.WriteFile(s.b.layout.LogPath(s.ref), make([]byte, 512<<10), 0o600))
	second := make(chan struct{}, 2)
	var first sync.Once
	taskfiles.OpenFile = func(path string, flag int, perm fs.FileMode) (*os.File, error) {
		if strings.HasSuffix(path, ".cuts") {
			one := false
			first.Do(func() { one = true })
			if !one {
				second <- struct{}{}
				return os.OpenFile(path, flag, perm)
			}
			select {
			case <-second:
				t.Error("two cut at the same time")
			case <-time.After(100 * time.Millisecond): // nobody else comes
			}
		}
		return os.OpenFile(path, flag, perm)
	}
	defer func() { taskfiles.OpenFile = os.OpenFile }()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := s.boundLog(); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
}
