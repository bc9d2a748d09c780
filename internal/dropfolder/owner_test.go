package dropfolder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Whoever may have been followed by another owner leaves the folder alone until it is
// known, in every way: what is there is that one's.
func TestLeaseInDoubt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":"a"}`)
		w.pass(7 * time.Second)
		w.ledger.with(func(l *ledger) { l.leaseErr = errors.New("the file server does not answer") })
		w.ledger.end("a", Outcome{State: task.Succeeded})
		w.drop("b.json", `{"id":"b"}`)
		must(w, PutCancel(w.dir, "a", "test", ""))
		w.pass(time.Minute)
		w.only()
		w.empty("done", "rejected")
		if n := len(w.names("requests")); n != 1 {
			w.Errorf("there are %d requests", n)
		}
		w.ledger.with(func(l *ledger) { l.leaseErr = nil })
		w.pass(10 * time.Second)
		w.done("a.json")
		if all := w.ledger.all(); len(all) != 2 {
			w.Errorf("there are %d tasks", len(all))
		}
		w.empty("pending", "requests")
	})
}

// A former owner, frozen until then, takes one more file: its successor goes on with it.
func TestFileTakenByTheOwnerBefore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pass(time.Minute)
		w.drop("late.json", `{"payload":{}}`)
		const ticket = "01JZ0000000000000000000000"
		must(w, os.Rename(w.path("pending", "late.json"), w.path("taken", ticket+"~late.json")))
		w.pass(10 * time.Second)
		if id, _ := w.only(); id != ticket {
			w.Errorf("the task is %s", id)
		}
		w.ledger.endAll()
		w.pass(0)
		w.done("late.json")
		w.empty("pending", "taken")
	})
}

// So it does on a local disk, which that one may see by another way.
func TestFileTakenByTheOwnerBeforeOnALocalDisk(t *testing.T) {
	m := newFuzzFolder(t)
	m.step()
	const ticket = "01JZ0000000000000000000000"
	must(t, os.WriteFile(filepath.Join(m.opts.Dir, "taken", ticket+"~late.json"), []byte(`{"payload":{}}`), 0o600))
	for range 4 {
		m.step()
	}
	if all := m.ledger.all(); len(all) != 1 || all[ticket].times != 1 {
		t.Errorf("the tasks are %v", all)
	}
}
