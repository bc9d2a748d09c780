package backendtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// gate is what programs wait for before they go on, and where they say how far
// they have come.
type gate struct{ dir string }

func newGate(t *testing.T) gate { return gate{t.TempDir()} }

func (g gate) path() string { return filepath.Join(g.dir, "gate") }

func (g gate) runs(seq task.Seq) string { return filepath.Join(g.dir, fmt.Sprintf("runs-%d", seq)) }

func (g gate) done(seq task.Seq) string { return filepath.Join(g.dir, fmt.Sprintf("done-%d", seq)) }

// spec is a program that notes that it runs, waits for the gate, does some last
// thing, notes that it is done, and ends.
func (g gate) spec(seq task.Seq, last string, code int) task.Spec {
	return sh(fmt.Sprintf("echo x >> %s; while [ ! -e %s ]; do sleep 0.01; done; %s; echo $$ > %s; exit %d", g.runs(seq), g.path(), last, g.done(seq), code))
}

func (g gate) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(g.path(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitDone waits until a program is done and, where that can be seen, has ended.
func (g gate) awaitDone(e *engine, seq task.Seq) {
	e.t.Helper()
	awaitFile(e.t, g.done(seq))
	if e.place.Ended != nil {
		poll(e.t, "the end of a program", func() bool { return e.place.Ended(e.t, e.get(seq).Ref()) })
	}
	if e.place.Can.HostProcess {
		poll(e.t, "the end of a program", func() bool { _, gone := lookAt(e.t, g.done(seq)); return gone })
	}
}

// wantOneRun ends the test if a program did not run exactly once.
func (g gate) wantOneRun(t *testing.T, seq task.Seq) {
	t.Helper()
	if b, err := os.ReadFile(g.runs(seq)); err != nil || string(b) != "x\n" {
		t.Fatalf("task %d ran %d times, %v", seq, strings.Count(string(b), "x"), err)
	}
}
