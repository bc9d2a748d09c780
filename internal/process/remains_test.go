package process

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// remainsOf opens what is left in a spool.
func remainsOf(t *testing.T, spool string) *Remains {
	t.Helper()
	dir := t.TempDir()
	r, err := NewRemains(Options{QueueID: "q", TasksDir: dir, SpoolDir: spool, RuntimeDir: dir, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return r
}

// spoolOf makes the spool of a supervisor that was somewhere.
func spoolOf(t *testing.T, c card) (below, dir string) {
	t.Helper()
	below = t.TempDir()
	dir = filepath.Join(below, "0123456789ab-11111111")
	j, _, err := openJournal(dir, "boot")
	must(t, err)
	lives(j)
	must(t, j.commit())
	j.close()
	if c != (card{}) {
		must(t, c.write(dir))
	}
	return below, dir
}

// TestRemainsOfATwin: a supervisor on a host that was made from the same image as ours, and
// shares the machine's id, may be alive; one of an earlier boot of ours is not.
func TestRemainsOfATwin(t *testing.T) {
	t.Parallel()
	here, err := host.This()
	must(t, err)
	for name, may := range map[string]bool{here.Name: false, here.Name + "-twin": true} {
		synctest.Test(t, func(t *testing.T) {
			below, dir := spoolOf(t, card{Host: name, Machine: here.Machine, Boot: "11111111-x", Supervisor: "s", Beats: 1})
			r := remainsOf(t, below)
			if !r.Lives() {
				t.Error("nobody has looked, and it is dead")
			}
			must(t, r.Look())
			if !r.Lives() {
				t.Error("it was only just found, and is dead")
			}
			must(t, r.Look())
			if r.Lives() != may {
				t.Errorf("on %q: lives %t", name, !may)
			}
			time.Sleep(deadAfter - time.Second)
			must(t, card{Host: name, Machine: here.Machine, Boot: "11111111-x", Supervisor: "s", Beats: 2}.write(dir))
			must(t, r.Look())
			time.Sleep(deadAfter - time.Second)
			if r.Lives() != may {
				t.Errorf("on %q, heard: lives %t", name, !may)
			}
			time.Sleep(time.Second)
			if r.Lives() {
				t.Errorf("on %q, silent: it lives", name)
			}
		})
	}
}

// TestRemainsAreWhole: what is not in the remains has not begun only where they are all that
// was written.
func TestRemainsAreWhole(t *testing.T) {
	t.Parallel()
	c := card{Host: "n", Machine: "m", Boot: "11111111-x", Supervisor: "s", Beats: 1}
	below, dir := spoolOf(t, c)
	journal := filepath.Join(dir, journalName)
	r := remainsOf(t, below)
	if r.Whole() {
		t.Error("nobody has looked")
	}
	must(t, r.Look())
	if _, begun, _ := r.Of(attemptOne(3)); !r.Whole() || !begun {
		t.Errorf("whole %t, begun %t", r.Whole(), begun)
	}
	b, err := os.ReadFile(journal)
	must(t, err)
	must(t, os.WriteFile(journal, append(make([]byte, 64), b...), 0o600))
	must(t, r.Look())
	if r.Whole() {
		t.Error("with a hole")
	}
	must(t, os.WriteFile(journal, b, 0o600))
	must(t, r.Look())
	if !r.Whole() {
		t.Error("it is whole again")
	}
	must(t, os.Remove(journal))
	must(t, os.Mkdir(journal, 0o700))
	if r.Look() == nil || r.Whole() {
		t.Error("it cannot be read")
	}
	must(t, os.Remove(journal))
	must(t, r.Look())
	if _, begun, _ := r.Of(attemptOne(3)); r.Whole() || !begun {
		t.Errorf("without a journal: whole %t, begun %t", r.Whole(), begun)
	}
	empty := remainsOf(t, t.TempDir())
	must(t, empty.Look())
	if !empty.Whole() {
		t.Error("there was no supervisor, and something is missing")
	}
	gone := remainsOf(t, filepath.Join(t.TempDir(), "none"))
	must(t, gone.Look())
	if gone.Whole() {
		t.Error("the folder was removed")
	}
}

// TestRemainsUnread: an attempt whose result cannot be read now has ended, and is not said to
// have ended otherwise.
func TestRemainsUnread(t *testing.T) {
	below := t.TempDir()
	j, _, err := openJournal(filepath.Join(below, "0123456789ab-11111111"), "boot")
	must(t, err)
	j.add(name(1), &supervisorpb.Claim{})
	j.add(name(1), &supervisorpb.Started{At: 1, Pid: 7})
	j.add(name(1), &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, At: 2})
	must(t, j.commit())
	j.close()
	r := remainsOf(t, below)
	must(t, r.Look())
	result := r.b.layout.ResultPath(attemptOne(1))
	must(t, os.MkdirAll(filepath.Dir(result), 0o700))
	must(t, os.WriteFile(result, []byte("{}"), 0o600))
	failOpening(t, ".result.json", unix.ESTALE, 1)
	changes, begun, err := r.Of(attemptOne(1))
	if !begun || err == nil || len(changes) == 0 || changes[len(changes)-1].Event.Kind.Ends() {
		t.Errorf("%+v, begun %t, %v", changes, begun, err)
	}
	changes, begun, err = r.Of(attemptOne(1))
	if !begun || err != nil || len(changes) == 0 || changes[len(changes)-1].Event.Kind != task.EventExited {
		t.Errorf("%+v, begun %t, %v", changes, begun, err)
	}
}
