package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// With an init a program has what it has without, and room for it.
func TestProgramBelowInit(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Rules.PIDs = 64
	d := p.daemon(t)
	s := sh("grep -E '^(CapEff|NoNewPrivs):' /proc/self/status | tr -d '\\t'; cat /sys/fs/cgroup/pids/pids.max; echo $0 $1; readlink /proc/1/exe")
	s.Argv = append(s.Argv, "zero", "one")
	tk := d.end(d.run(1, s))
	want := fmt.Sprintf("CapEff:0000000000000000\nNoNewPrivs:1\n%d\nzero one\n%s\n", 64+containerinit.Threads, initPath)
	if got := p.output(t, tk.Ref()); tk.State() != task.Succeeded || got != want {
		t.Errorf("%s: it sees %q, want %q", tk.State(), got, want)
	}
	small := sh("exit 3")
	small.Resources.MemBytes = 8 << 20
	if _, o := outcome(d.end(d.run(2, small)), 1); o.ExitCode != 3 {
		t.Errorf("in 8 MiB: %+v", o)
	}
	// What the image runs by itself is found out.
	if tk := d.end(d.run(3, task.Spec{})); tk.State() != task.Succeeded { // a shell, at the end of its input
		t.Errorf("the image's own command: %s, %+v", tk.State(), tk.Status().Outcome)
	}
}

// An engine that cannot show our files is worked with as without an init: what it was
// tried with has not begun.
func TestInitThatCannotBeExecuted(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Init = filepath.Join(t.TempDir(), "init")
	must(t, os.WriteFile(p.opts.Init, []byte("#!/no/such/interpreter\n"), 0o755))
	d := p.daemon(t)
	for seq := task.Seq(1); seq <= 2; seq++ {
		tk := d.end(d.run(seq, sh("echo ran; exit 4")))
		if _, o := outcome(tk, 1); o.ExitCode != 4 || p.output(t, tk.Ref()) != "ran\n" {
			t.Errorf("%+v, output %q", o, p.output(t, tk.Ref()))
		}
	}
	if d.initFile() != "" {
		t.Error("it is tried again with each")
	}
}

// A log that grows too large loses its middle while it is written.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.LogCap = 1 << 20
	d := p.daemon(t)
	tk := d.end(d.run(1, sh("echo begun; for i in 1 2 3 4; do dd if=/dev/zero bs=64k count=20 2>/dev/null | tr '\\0' x; sleep 1; done; echo; echo last")))
	if tk.State() != task.Succeeded {
		t.Fatal(tk.Status())
	}
	path := taskfiles.Layout{Dir: p.opts.TasksDir}.LogPath(tk.Ref())
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	out := p.output(t, tk.Ref())
	if st.Blocks*512 > p.opts.LogCap*5/4 || !strings.HasPrefix(out, "begun\nxxx") || !strings.HasSuffix(out, "xxx\nlast\n") {
		t.Errorf("%d bytes on disk, from %.10q to %q", st.Blocks*512, out, out[max(0, len(out)-10):])
	}
	if _, err := os.Stat(path + ".cuts"); err != nil {
		t.Error(err)
	}
}

// What its engine has lost, or takes for what never ran, is told by the record alone.
func TestRecordCounts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	d := p.daemon(t)
	tk := d.running(d.run(1, sh("echo begun; sleep 1; exit 5")))
	d.stop()
	c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, tk.Ref()))
	must(t, err)
	poll(t, "the end", func() bool {
		r, err := containerinit.Read(d.record(tk.Ref()))
		return err == nil && r.End != nil && !r.Alive
	})
	must(t, p.opts.Engine.Remove(t.Context(), c.ID))
	tk = p.daemon(t, d.get(tk.Ref())).end(tk)
	if _, o := outcome(tk, 1); o.ExitCode != 5 || o.Class != task.UserError || p.output(t, tk.Ref()) != "begun\n" {
		t.Errorf("%+v, output %q", o, p.output(t, tk.Ref()))
	}
}

// A program that removes or spoils what its init writes down runs once, and ends when it has to.
func TestProgramSpoilsItsRecord(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	d := p.daemon(t)
	dir := t.TempDir()
	const record = insideDir + "/" + recordDir
	scripts := map[task.Seq]string{
		1: "rm -rf " + record + "; exit 1",
		2: "rm " + record + "/claim.json; exit 2",
		3: "rm -rf " + record + "; mkdir " + record + "; exit 3",
		4: "cd " + record + "; rm claim.json; mkfifo claim.json; echo '{\"v\":1}' > end.json; sleep 1000",
	}
	for seq, script := range scripts {
		s := sh(fmt.Sprintf("echo x >> %s/%d; %s", dir, seq, script))
		s.Mounts = []task.Mount{{Host: dir, Target: dir}}
		if seq == 4 {
			s.Timeout, s.Grace = time.Second, time.Second
		}
		d.run(seq, s)
	}
	for seq := range scripts {
		tk := d.end(d.get(task.Ref{Seq: seq, Attempt: 1}))
		_, o := outcome(tk, 1)
		if seq < 4 && o.ExitCode != int(seq) || seq == 4 && o.Class != task.Timeout {
			t.Errorf("%s: %+v", scripts[seq], o)
		}
		if b, err := os.ReadFile(fmt.Sprintf("%s/%d", dir, seq)); err != nil || string(b) != "x\n" {
			t.Errorf("%s: it ran so often: %q, %v", scripts[seq], b, err)
		}
	}
	if d.initFile() == "" {
		t.Error("the init is not used any more")
	}
}

// A container that was made by others of our name and never claimed is started once, and
// one that is to be ended before is never started.
func TestStopBeforeItBegan(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	tk := assigned(t, 1, sh("echo ran"))
	made := newRun(p.open(t), tk)
	made.b.is = docker.Engine{Version: "any"}
	must(t, made.prepare(t.Context(), tk))
	spec, no := made.spec(tk)
	if no != nil {
		t.Fatal(no.text)
	}
	must(t, made.withInit(t.Context(), tk, &spec))
	_, err := p.opts.Engine.Create(t.Context(), spec)
	must(t, err)
	d := p.daemon(t)
	for _, kind := range []task.EventKind{task.EventLaunched, task.EventStopping} {
		tk, err = task.Apply(tk, task.Event{Kind: kind, At: task.At(d.opts.Now()), Attempt: 1, Cause: task.CauseCancel, Handle: []byte("{}")})
		must(t, err)
	}
	d.mu.Lock()
	d.tasks[tk.Ref()] = tk
	d.mu.Unlock()
	must(t, d.Stop(t.Context(), tk))
	if tk = d.end(tk); tk.State() != task.Cancelled {
		t.Errorf("%s", tk.State())
	}
	// Whoever starts it now, it does not begin.
	must(t, p.opts.Engine.Start(t.Context(), spec.Name))
	poll(t, "the end of its init", func() bool {
		c, err := p.opts.Engine.Inspect(t.Context(), spec.Name)
		return err == nil && c.Phase == docker.Exited && c.ExitCode == containerinit.Taken
	})
	if got := p.output(t, tk.Ref()); got != "" {
		t.Errorf("output %q", got)
	}
}

// Of lack of memory the init knows by itself: Podman 4.3 does not tell.
func TestOutOfMemoryOnPodman(t *testing.T) {
	if !full() {
		t.Skip("another engine, left to the long run: DSPY_TEST_FULL=1 go test -run TestOutOfMemoryOnPodman ./internal/container")
	}
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{Podman: true})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	hungry := sh("tail /dev/zero")
	hungry.Resources.MemBytes = 32 << 20
	if _, o := outcome(d.end(d.run(1, hungry)), 1); o.Class != task.OutOfMemory {
		t.Errorf("%+v", o)
	}
}
