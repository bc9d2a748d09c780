package app

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/queue"
)

// called is an unattended queue, and a client of it.
type called struct {
	*api.Client
	close func() error // may be called twice
}

// openForCalls opens the queue of a workspace.
func openForCalls(t *testing.T, conf config.Config, write bool) called {
	t.Helper()
	u, err := OpenUnattended(t.Context(), UnattendedOptions{Config: conf, Write: write, Nobody: "no daemon runs for workspace " + conf.Workspace + "; start one"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.Dial(t.Context(), api.Target{Conn: u.Conn(), Workspace: conf.Workspace})
	if err != nil {
		t.Fatal(errors.Join(err, u.Close()))
	}
	done := false
	d := called{Client: c, close: func() error {
		if done {
			return nil
		}
		done = true
		return errors.Join(c.Close(), u.Close())
	}}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func (c called) submit(t *testing.T, id string, after ...*pb.Dependency) {
	t.Helper()
	answer, err := c.SubmitTask(t.Context(), &pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{Argv: []string{"true"}, After: after}})
	if err != nil || !answer.GetSuccess() {
		t.Fatalf("submit %s: %v %v", id, answer, err)
	}
}

// leave ends a use of the queue, whose lock is then free.
func (c called) leave(t *testing.T) {
	t.Helper()
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

// contents reads every file below a folder, with its mode.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out[path] = info.Mode().String()
		if e.Type().IsRegular() {
			b, err := os.ReadFile(path)
			out[path] += " " + info.ModTime().String() + " " + string(b)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReadingChangesNothing: not a byte below the workspace, whatever is asked.
func TestReadingChangesNothing(t *testing.T) {
	t.Parallel()
	conf := testOptions(t).Config
	w := openForCalls(t, conf, true)
	w.submit(t, "a")
	w.submit(t, "b", &pb.Dependency{Id: "a", When: "ok"})
	w.leave(t)
	before := contents(t, conf.Workspace)

	r := openForCalls(t, conf, false)
	ctx := t.Context()
	h, err := r.Health(ctx, &pb.HealthRequest{})
	if err != nil || h.GetServices()["queue"] != "ok" {
		t.Errorf("health: %v %v", h, err)
	}
	if page, err := r.ListTasks(ctx, &pb.ListTasksRequest{}); err != nil || len(page.GetTasks()) != 2 {
		t.Errorf("list: %v %v", page, err)
	}
	if stats, err := r.GetQueueStats(ctx, &pb.GetQueueStatsRequest{}); err != nil || len(stats.GetClasses()) == 0 {
		t.Errorf("stats: %v %v", stats, err)
	}
	for id, want := range map[string]string{"a": "; then: it is the next of its kind", "b": "; then: waiting for a to succeed"} {
		got, err := r.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: id})
		nobody := "waiting for somebody to run it: no daemon runs for " + conf.String() + "; start one"
		if err != nil || !strings.HasPrefix(got.GetReason(), nobody+want) {
			t.Errorf("explain %s: %v %v", id, got, err)
		}
	}
	// What would write is refused, and nobody waits for an answer that does not come.
	if _, err := r.SubmitTask(ctx, &pb.SubmitTaskRequest{Id: "c", Spec: &pb.TaskSpec{Argv: []string{"true"}}}); err == nil {
		t.Error("a task was accepted by a queue that is open for reading")
	}
	if _, err := r.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: "a"}); task.CodeOf(err) != task.CodeUnavailable {
		t.Errorf("cancel: %v", err)
	}
	if _, err := r.PauseClass(ctx, &pb.PauseClassRequest{Class: config.DefaultClass}); task.CodeOf(err) != task.CodeUnavailable {
		t.Errorf("pause: %v", err)
	}
	r.leave(t)

	after := contents(t, conf.Workspace)
	if !maps.Equal(before, after) {
		for _, path := range slices.Sorted(maps.Keys(after)) {
			if before[path] != after[path] {
				t.Errorf("%s is another than before", path)
			}
		}
		t.Errorf("there were %d files and folders, and are %d", len(before), len(after))
	}
}

// TestNobodyMovesTasks: without an owner nothing is placed, what was placed stays so,
// and a cancel of it is on disk for the next owner.
func TestNobodyMovesTasks(t *testing.T) {
	t.Parallel()
	conf := testOptions(t).Config
	w := openForCalls(t, conf, true)
	w.submit(t, "waits")
	w.submit(t, "placed")
	w.submit(t, "running")
	w.leave(t)
	place(t, conf, "placed")
	place(t, conf, "running", task.Event{Kind: task.EventLaunched}, task.Event{Kind: task.EventStarted})

	w = openForCalls(t, conf, true)
	ctx := t.Context()
	w.submit(t, "another") // which wakes the engine
	if got, err := w.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: "running", Reason: "enough"}); err != nil || got.GetTask().GetState() != task.Stopping.String() {
		t.Errorf("cancel: %v %v", got, err)
	}
	if _, err := w.PauseClass(ctx, &pb.PauseClassRequest{Class: "cpu_long"}); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]string{"placed": "; start one", "running": "being stopped", "waits": "; start one"} {
		if got, err := w.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: id}); err != nil || !strings.Contains(got.GetReason(), want) {
			t.Errorf("explain %s: %v %v", id, got, err)
		}
	}
	w.leave(t)

	q, err := queue.Open(ctx, queue.Options{Dir: conf.QueueDir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	for id, want := range map[string]task.State{"waits": task.Pending, "another": task.Pending, "placed": task.Assigned, "running": task.Stopping} {
		if got, err := q.Lookup(id); err != nil || got.State() != want {
			t.Errorf("%s is %s, want %s (%v)", id, got.State(), want, err)
		}
	}
	if _, ok := q.Paused()["cpu_long"]; !ok {
		t.Error("the pause is not on disk")
	}
	if err := q.Check(ctx); err != nil {
		t.Error(err)
	}
}

// place does what a daemon that has died since had done.
func place(t *testing.T, conf config.Config, id string, then ...task.Event) {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Options{Dir: conf.QueueDir})
	if err != nil {
		t.Fatal(err)
	}
	is, err := q.Lookup(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range append([]task.Event{{Kind: task.EventPlaced, Backend: process.Name}}, then...) {
		ev.At, ev.Attempt = task.At(time.Now()), 1
		got, err := q.Apply(t.Context(), []task.Change{{Seq: is.Seq, Event: ev}})
		if err != nil || got[0].Err != nil {
			t.Fatal(err, got[0].Err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWhoHasTheQueueIsNamed: by a BusyError, after the time that was given. Readers do
// not keep one another out.
func TestWhoHasTheQueueIsNamed(t *testing.T) {
	t.Parallel()
	conf := testOptions(t).Config
	try := func(write bool) error {
		u, err := OpenUnattended(t.Context(), UnattendedOptions{Config: conf, Write: write, LockTimeout: time.Millisecond})
		if err == nil {
			err = u.Close()
		}
		return err
	}
	w := openForCalls(t, conf, true)
	var first Holder
	for _, write := range []bool{true, false} {
		held, ok := errors.AsType[*BusyError](try(write))
		if !ok || held.Holder.PID != os.Getpid() || held.Holder.Host == "" || held.Holder.Fence == 0 || !errors.Is(held, queue.ErrLocked) {
			t.Fatalf("beside a writer: %+v", held)
		}
		first = held.Holder
	}
	w.leave(t)

	w = openForCalls(t, conf, true)
	if held, ok := errors.AsType[*BusyError](try(true)); !ok || held.Holder == first {
		t.Errorf("the second opening is told as the first: %+v", held)
	}
	w.leave(t)

	r := openForCalls(t, conf, false)
	if err := try(false); err != nil {
		t.Errorf("a reader beside a reader: %v", err)
	}
	if held, ok := errors.AsType[*BusyError](try(true)); !ok || held.Holder.PID != os.Getpid() {
		t.Errorf("a writer beside a reader: %+v", held)
	}
	r.leave(t)
}

// TestSameHolderForAllTries: what our own tries change in the folder, as the trial on a
// file server does, makes nobody another holder. Of those who do not say who they are,
// another is told by what it has written.
func TestSameHolderForAllTries(t *testing.T) {
	t.Parallel()
	conf := testOptions(t).Config
	openForCalls(t, conf, true).leave(t)
	holder := func(locked *queue.LockedError) Holder {
		t.Helper()
		locked.Dir = conf.QueueDir
		held, ok := errors.AsType[*BusyError](busy(locked))
		if !ok {
			t.Fatal("it is not busy")
		}
		return held.Holder
	}
	far := &queue.Owner{Host: "login2", BootID: "another", PID: 77, Fence: 9}
	named := holder(&queue.LockedError{Owner: far})
	trial := filepath.Join(conf.QueueDir, tryopen.TrialFile+"1")
	if err := errors.Join(os.WriteFile(trial, nil, 0o600), os.Chtimes(conf.QueueDir, time.Time{}, time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if named != holder(&queue.LockedError{Owner: far}) {
		t.Error("a file that was made beside the queue makes another holder")
	}
	unnamed := holder(&queue.LockedError{}) // on a local disk, where nobody tries, the folder tells as well
	openForCalls(t, conf, true).leave(t)
	if unnamed == holder(&queue.LockedError{}) {
		t.Error("who has written the queue since is told as the one before")
	}
	if named != holder(&queue.LockedError{Owner: far}) {
		t.Error("what is written makes another holder of one who says who it is")
	}
}

// TestUnattendedFailures: what cannot be opened leaves nothing behind that keeps others
// out.
func TestUnattendedFailures(t *testing.T) {
	t.Parallel()
	conf := testOptions(t).Config
	if _, err := OpenUnattended(t.Context(), UnattendedOptions{Config: conf}); task.CodeOf(err) != task.CodeNotFound {
		t.Errorf("reading where there is no queue: %v", err)
	}
	if _, err := os.Stat(conf.QueueDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading has made the folder: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenUnattended(gone, UnattendedOptions{Config: conf, Write: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has left: %v", err)
	}
	openForCalls(t, conf, true).leave(t)
}
