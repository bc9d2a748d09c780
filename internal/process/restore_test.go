package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A spool that was removed under its supervisor is made again, with all that it
// held, and nobody else can have it.
func TestRemovedSpoolIsMadeAgain(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	running := assigned(t, 1, sh("exec sleep 1000"))
	d.launch(running)
	d.await(running.Ref(), task.EventStarted)
	for _, gone := range []string{filepath.Join(d.spool, journalName), filepath.Join(d.spool, lockFileName), d.spool} {
		must(t, os.RemoveAll(gone))
		poll(t, "the journal", func() bool { return d.started(running.Ref()) })
		poll(t, "the word where its supervisor is", func() bool { return announced(d.spool) != "" })
		if _, err := host.Lock(filepath.Join(d.spool, lockFileName)); !errors.Is(err, host.ErrLocked) {
			t.Errorf("without %s, the lock: %v", gone, err)
		}
	}
	next := assigned(t, 2, sh("exec sleep 1000"))
	d.launch(next)
	d.await(next.Ref(), task.EventStarted)
	if !d.started(next.Ref()) {
		t.Error("what came later is not in the journal")
	}
}

// started says whether the journal on the disk has the process of an attempt.
func (d *daemon) started(ref task.Ref) bool {
	f, err := os.Open(filepath.Join(d.spool, journalName))
	if err != nil {
		return false
	}
	defer f.Close()
	recs, _, err := readRecords(f)
	must(d.t, err)
	for _, r := range recs {
		if refOf(r.GetName()) == ref && r.GetStarted().GetPid() != 0 {
			return true
		}
	}
	return false
}

// Where another supervisor has taken a removed journal over, it stays with that
// one.
func TestRemovedSpoolOfAnother(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	j, _ := reopen(t, dir)
	must(t, os.RemoveAll(dir))
	reopen(t, dir)
	if err := j.relock(); !errors.Is(err, host.ErrLocked) {
		t.Errorf("error %v", err)
	}
}

// Where the folder of a queue was moved away, and another queue may be in its place, no
// journal is made there: it would keep that queue from having its own.
func TestSpoolOfAMovedQueue(t *testing.T) {
	home := filepath.Join(t.TempDir(), "queue")
	dir := filepath.Join(home, "spool", "here")
	j, _ := reopen(t, dir)
	must(t, os.Rename(home, home+".old"))
	if err := j.relock(); !errors.Is(err, errHomeMoved) {
		t.Errorf("without the folder: %v", err)
	}
	must(t, os.MkdirAll(home, 0o700))
	if err := j.relock(); !errors.Is(err, errHomeMoved) {
		t.Errorf("with another folder: %v", err)
	}
	if entries, err := os.ReadDir(home); err != nil || len(entries) > 0 {
		t.Errorf("it has %v, %v", entries, err)
	}
}
