package dropfolder

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestCancelOnRequest(t *testing.T) {
	inWorld(t, func(w *world) {
		id, err := Put(w.dir, File{Class: "cpu_long", Priority: 2, Payload: []byte(`{"command":"true"}`)})
		must(w, err)
		must(w, PutCancel(w.dir, id, "uid 7 on there", "a mistake"))
		w.pass(5 * time.Second)
		got, b := w.only()
		if got != id || b.sub.Class != "cpu_long" || b.sub.Priority != 2 {
			w.Errorf("task %s is %+v, and was put as %s", got, b.sub, id)
		}
		if want := []string{id + " by uid 7 on there: a mistake"}; !reflect.DeepEqual(w.ledger.cancels, want) {
			w.Errorf("cancelled %q", w.ledger.cancels)
		}
		w.empty("requests", "rejected")
		w.ledger.end(id, Outcome{State: task.Cancelled, Error: "cancelled"})
		must(w, PutCancel(w.dir, id, "", "")) // it has ended: nothing is left to be done
		w.pass(7 * time.Second)
		w.empty("requests", "rejected", "taken")
	})
}

// A request may come before the file that it is about, as long as that one waits.
func TestCancelOfWhatIsStillToCome(t *testing.T) {
	inWorld(t, func(w *world) {
		must(w, PutCancel(w.dir, "later", "me", ""))
		w.pass(30 * time.Second)
		w.drop("x.json", `{"id":"later"}`)
		w.pass(10 * time.Second)
		w.empty("requests", "rejected")
		if len(w.ledger.cancels) != 1 {
			w.Errorf("cancelled %q", w.ledger.cancels)
		}
		must(w, PutCancel(w.dir, "never", "me", ""))
		w.pass(2 * time.Minute)
		w.empty("requests")
		names := w.names("rejected")
		if len(names) != 2 || !strings.Contains(w.read("rejected", names[0]), "no such task: never") {
			w.Errorf("rejected has %q", names)
		}
	})
}

func TestRequestsThatCannotBeCarriedOut(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":"a"}`)
		w.pass(5 * time.Second)
		w.ledger.with(func(l *ledger) { l.cancelErr = errors.New("broken") })
		must(w, PutCancel(w.dir, "a", "me", ""))
		w.pass(time.Minute)
		if len(w.names("requests")) != 1 {
			w.Errorf("requests has %q", w.names("requests"))
		}
		if n := strings.Count(w.log.String(), "broken"); n != 1 {
			w.Errorf("it was said %d times", n)
		}
		w.ledger.with(func(l *ledger) { l.cancelErr = nil })
		w.pass(10 * time.Second)
		w.empty("requests")
		for name, content := range map[string]string{
			"1.json": `{"cancel":"../x"}`, "2.json": `{"cancel":`, "3.json": `{"retry":"a"}`, "4.json": `{"cancel":7}`, "5.json": `[]`,
		} {
			must(w, os.WriteFile(w.path("requests", name), []byte(content), 0o600))
		}
		must(w, os.Symlink("/nowhere", w.path("requests", "6.json")))
		w.pass(2 * time.Minute)
		w.empty("requests")
		w.rejected("1.json", `{"cancel":"../x"}`, "the request names no task")
		w.rejected("2.json", `{"cancel":`, "unexpected end")
		w.rejected("3.json", `{"retry":"a"}`, "unknown field")
		if text := w.read("rejected", "2.error"); !strings.Contains(text, "'"+w.path("requests", "2.json")+"'") || strings.Contains(text, "pending") {
			w.Errorf("it is to be moved back elsewhere than where it came from: %s", text)
		}
		if n := len(w.names("rejected")); n != 12 {
			w.Errorf("rejected has %q", w.names("rejected"))
		}
	})
}

func TestPutRefusesWhatWouldBeRejected(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	if _, err := Put(dir, File{Payload: []byte(`[1]`)}); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("a payload that is no object: %v", err)
	}
	if _, err := Put(dir, File{Payload: []byte(`{`)}); err == nil {
		t.Error("what is no JSON was put")
	}
	if err := PutCancel(dir, "", "me", ""); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("a request without a task: %v", err)
	}
	must(t, os.Chmod(dir, 0o777))
	if _, err := Put(dir, File{}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("into a folder of everybody's: %v", err)
	}
	if b, err := Waiting(dir, nil); err != nil || b.Any() {
		t.Errorf("%+v waits (%v)", b, err)
	}
}

// Waiting sees what there is, and makes nothing.
func TestWaiting(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	if b, err := Waiting(dir+"/none", nil); err != nil || b.Any() {
		t.Errorf("%+v waits (%v)", b, err)
	}
	if b, err := Waiting(dir, nil); err != nil || b.Any() {
		t.Errorf("%+v waits (%v)", b, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("%v was made (%v)", list, err)
	}
	for range 3 {
		_, err := Put(dir, File{})
		must(t, err)
	}
	must(t, PutCancel(dir, "a", "", ""))
	must(t, os.WriteFile(dir+"/pending/.hidden.json", nil, 0o600))
	must(t, os.WriteFile(dir+"/taken/01~.json", nil, 0o600))
	if b, err := Waiting(dir, nil); err != nil || b != (Backlog{Pending: 3, Taken: 1, Requests: 1}) {
		t.Errorf("%+v waits (%v)", b, err)
	}
	must(t, os.Chmod(dir+"/pending", 0o777))
	if _, err := Waiting(dir, nil); !errors.Is(err, ErrUnsafe) {
		t.Errorf("an unsafe folder: %v", err)
	}
}

// Check sees what would keep a folder from being opened, in any of its directories, and
// makes none of them.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	if err := errors.Join(Check(dir+"/none"), Check(dir)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{pendingName, takenDirName, doneName, rejectedName, requestsName} {
		must(t, os.WriteFile(dir+"/"+name, nil, 0o600))
		if err := Check(dir); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s is a file: %v", name, err)
		}
		must(t, os.Remove(dir+"/"+name))
		must(t, os.Mkdir(dir+"/"+name, 0o700))
		must(t, os.Chmod(dir+"/"+name, 0o720)) //nolint:gosec // that is the point
		if err := Check(dir); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s can be written by others: %v", name, err)
		}
		must(t, os.Remove(dir+"/"+name))
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("%v was made (%v)", list, err)
	}
	must(t, os.Chmod(dir, 0o770)) //nolint:gosec // that is the point
	if err := Check(dir); !errors.Is(err, ErrUnsafe) {
		t.Errorf("the folder itself can be written by others: %v", err)
	}
}

// That a request was carried out is on disk before the next round.
func TestDoneRequestsAreSynced(t *testing.T) {
	m := newFuzzFolder(t)
	var synced []string
	m.opts.syncDirs = func(dirs ...*dir) error {
		for _, d := range dirs {
			synced = append(synced, filepath.Base(d.path))
		}
		return nil
	}
	m.ledger.tasks["a"] = &booked{outcome: Outcome{State: task.Pending}}
	must(t, PutCancel(m.opts.Dir, "a", "me", ""))
	for range 3 {
		m.step()
	}
	if len(m.ledger.cancels) != 1 || !slices.Contains(synced, "requests") {
		t.Errorf("cancelled %q, synced %q", m.ledger.cancels, synced)
	}
}

// A file that cannot be looked at for a while is not taken for one that has come anew,
// which would be waited for once more, and is told.
func TestFileThatCannotBeLookedAt(t *testing.T) {
	m := newFuzzFolder(t)
	var log logBuffer
	m.trouble.log = slog.New(slog.NewTextHandler(&log, nil))
	must(t, os.WriteFile(filepath.Join(m.opts.Dir, "pending", "half.json"), []byte("{"), 0o600))
	m.step()
	since := m.pending.looks["half.json"].since
	m.opts.stat = func(*dir, string) (unix.Stat_t, error) { return unix.Stat_t{}, unix.ESTALE }
	m.step()
	m.opts.stat = (*dir).stat
	if l := m.pending.looks["half.json"]; l == nil || l.since != since || !strings.Contains(log.String(), "look at half.json: stale") {
		t.Errorf("the look is %+v\n%s", l, &log)
	}
}

// A cancel waits as long as an order waits, which may be of its task, also where no other
// file is on its way.
func TestCancelOfAnOrderThatWaits(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ledger.with(func(l *ledger) { l.orderErr = task.Errorf(task.CodeUnavailable, "the disk is full") })
		must(w, PutOrder(w.dir, []byte(`{"id":"y"}`)))
		must(w, PutCancel(w.dir, "y", "me", ""))
		w.pass(10 * time.Minute)
		w.empty("rejected")
		w.ledger.with(func(l *ledger) {
			l.orderErr = nil
			l.tasks["y"] = &booked{outcome: Outcome{State: task.Pending}}
		})
		w.pass(time.Minute)
		w.empty("requests", "rejected")
		if len(w.ledger.cancels) != 1 {
			w.Errorf("cancelled %q", w.ledger.cancels)
		}
		must(w, PutCancel(w.dir, "never", "me", "")) // none waits any more
		must(w, PutCancel(w.dir, "neither", "me", ""))
		w.pass(2 * time.Minute)
		w.empty("requests")
	})
}

// An order is passed on as it was put; one that is refused is kept with the reason, and
// one that cannot be stored now is tried again.
func TestOrderOfAnotherHost(t *testing.T) {
	inWorld(t, func(w *world) {
		must(w, PutOrder(w.dir, []byte(`{"id":"x","retries":2}`)))
		w.pass(5 * time.Second)
		if want := []string{`{"id":"x","retries":2}`}; !reflect.DeepEqual(w.ledger.orders, want) {
			w.Errorf("ordered %q", w.ledger.orders)
		}
		w.empty("requests", "rejected")
		w.ledger.with(func(l *ledger) { l.orderErr = task.Errorf(task.CodeUnavailable, "the disk is full") })
		must(w, PutOrder(w.dir, []byte(`{"id":"y"}`)))
		w.pass(20 * time.Second)
		if len(w.names("requests")) != 1 {
			w.Errorf("requests has %q", w.names("requests"))
		}
		w.ledger.with(func(l *ledger) { l.orderErr = task.Errorf(task.CodeConflict, "y is another task") })
		w.pass(time.Minute)
		w.empty("requests")
		names := w.names("rejected")
		if len(names) != 2 || !strings.Contains(w.read("rejected", names[0]), "y is another task") {
			w.Errorf("rejected has %q", names)
		}
	})
}
