package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// restored is a stage of a queue that was restored: what is in the folder of its attempt is of
// a former queue.
func restored(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, task.Assigned, task.Spec{})
	must(t, os.WriteFile(s.b.path(s.ref, queueFile), []byte("former\n"), 0o600))
	return s
}

// A queue that was restored gives out numbers once more: what a former one has left under
// them is not believed, not written to and not removed.
func TestFormerFolderIsSetAside(t *testing.T) {
	t.Parallel()
	s := restored(t)
	s.claim() // it still runs
	s.writeEnd(0)
	s.signal = signal{At: time.Now(), Cause: task.CauseCancel}
	must(t, s.writeSignal())
	log := s.b.layout.LogPath(s.ref)
	must(t, os.WriteFile(log, []byte("former"), 0o600))
	must(t, os.WriteFile(s.b.path(s.ref, sharedDir, resultFile), []byte(`{"of":"former"}`), 0o600))
	if got := s.readSignal(); got.sent() {
		t.Error("the former attempt's signal is taken for this one's")
	}
	s.b.removeFiles(s.ref)
	s.e.onStart = func(*docker.Container) { s.claim() }
	if s.look(2) || s.e.starts != 1 || s.last().Kind != task.EventStarted || s.signal.sent() {
		t.Fatalf("started %d times: %s, signal %v", s.e.starts, s.last().Kind, s.signal.sent())
	}
	for path, want := range map[string]string{
		log + ".former": "former", log: "",
		s.b.path(s.ref) + ".former/" + queueFile: "former\n", s.b.path(s.ref, queueFile): "here\n",
		s.b.path(s.ref) + ".former/shared/result.json": `{"of":"former"}`,
	} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", filepath.Base(path), b, err)
		}
	}
	if _, err := os.Stat(s.b.resultPath(s.ref)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has a result: %v", err)
	}
	s.b.removeFiles(s.ref)
	if _, err := os.Stat(s.b.path(s.ref)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its own folder stays: %v", err)
	}
}

// Where the former attempt has ended its log alone is there.
func TestFormerLogIsSetAside(t *testing.T) {
	t.Parallel()
	for _, init := range []bool{true, false} {
		s := newStage(t, task.Assigned, task.Spec{})
		must(t, os.RemoveAll(s.b.path(s.ref)))
		log := s.b.layout.LogPath(s.ref)
		for _, suffix := range []string{"", ".cuts", ".streams"} {
			must(t, os.WriteFile(log+suffix, []byte("[]former"), 0o600))
		}
		if !init {
			s.b.opts.Init = ""
		}
		s.e.onStart = func(*docker.Container) {
			if init {
				s.claim()
			}
		}
		if s.look(2) || s.last().Kind != task.EventStarted {
			t.Fatal(s.last().Kind)
		}
		s.closeOutput()
		for _, suffix := range []string{"", ".cuts", ".streams"} {
			b, err := os.ReadFile(log + suffix)
			if err != nil && !errors.Is(err, fs.ErrNotExist) || len(b) > 0 {
				t.Errorf("init %v: %q is in %s, %v", init, b, suffix, err)
			}
			if b, err := os.ReadFile(log + suffix + ".former"); err != nil || string(b) != "[]former" {
				t.Errorf("init %v: the former %s: %q, %v", init, suffix, b, err)
			}
		}
	}
}

// A folder of ours is found again, also one that an earlier release has made.
func TestOwnFolderIsFoundAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Assigned, task.Spec{})
	must(t, os.Remove(s.b.path(s.ref, queueFile)))
	s.is(docker.Created, 0)
	for range 2 {
		must(t, s.takeFolder(t.Context()))
		if b, err := os.ReadFile(s.b.path(s.ref, queueFile)); err != nil || string(b) != "here\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if all, err := filepath.Glob(s.b.path(s.ref) + ".*"); err != nil || len(all) > 0 {
		t.Errorf("set aside: %v, %v", all, err)
	}
}

// Two queues in one folder, one restored from the other: what the former has running runs on,
// and the attempt of the same number runs by itself.
func TestRestoredBesideRunning(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	gate := filepath.Join(t.TempDir(), "gate")
	d := p.daemon(t)
	former := sh("echo former; while [ ! -e " + gate + " ]; do sleep 0.02; done; echo '{\"of\":\"former\"}' > $DSPY_RESULT_FILE; touch " + gate + ".done; sleep 1000")
	former.Mounts = []task.Mount{{Host: filepath.Dir(gate), Target: filepath.Dir(gate)}}
	old := d.running(d.run(1, former))
	d.stop()
	q := newPlace(t, shared(t).Address())
	q.opts.TasksDir = p.opts.TasksDir
	d2 := q.daemon(t)
	tk := d2.run(1, sh("echo mine; echo '{\"of\":\"mine\"}' > $DSPY_RESULT_FILE; exit 0"))
	must(t, os.WriteFile(gate, nil, 0o644))
	poll(t, "the former's result", func() bool { _, err := os.Stat(gate + ".done"); return err == nil })
	if tk = d2.end(tk); tk.State() != task.Succeeded || q.output(t, tk.Ref()) != "mine\n" || string(d2.result(tk.Ref())) != "{\"of\":\"mine\"}\n" {
		t.Errorf("%s, output %q, result %s", tk.State(), q.output(t, tk.Ref()), d2.result(tk.Ref()))
	}
	if c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, old.Ref())); err != nil || c.Phase != docker.Running {
		t.Errorf("the former's: %+v, %v", c, err)
	}
	b, err := os.ReadFile(taskfiles.Layout{Dir: p.opts.TasksDir}.LogPath(old.Ref()) + ".former")
	if err != nil || string(b) != "former\n" {
		t.Errorf("the former's output: %q, %v", b, err)
	}
}
