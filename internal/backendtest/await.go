package backendtest

import (
	"os"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// awaitPause is between two looks at what nobody tells about.
const awaitPause = 5 * time.Millisecond

// awaitOutput waits until the task has printed just that.
func (e *engine) awaitOutput(seq task.Seq, want string) {
	e.t.Helper()
	ref := e.get(seq).Ref()
	poll(e.t, "the output "+want, func() bool { return e.place.Output(e.t, ref) == want })
}

// awaitFile waits until a program has made the file.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	poll(t, path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// poll waits for what a program does, of which the test hears nothing.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(awaitPause)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s does not come", what)
		}
	}
}
