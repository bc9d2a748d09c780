package container

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

func shared(t *testing.T) *dockertest.Engine {
	t.Helper()
	e := dockertest.Shared(t, dockertest.Config{})
	e.LoadShell(t)
	return e
}

// Each way to end badly has its class, and words that say what to do.
func TestWhatIsToldApart(t *testing.T) {
	t.Parallel()
	e := shared(t)
	outside := t.TempDir()
	allowed := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(allowed, "link")))
	mounted := func(host string) task.Spec {
		s := sh("true")
		s.Mounts = []task.Mount{{Host: host, Target: "/data"}}
		return s
	}
	hungry := sh("tail /dev/zero")
	hungry.Resources.MemBytes = 32 << 20
	p := newPlace(t, e.Address())
	p.opts.Rules.Mounts = []string{allowed}
	d := p.daemon(t)
	for i, c := range []struct {
		spec  task.Spec
		class task.FailureClass
		code  int
		words string
	}{
		{sh("exit 3"), task.UserError, 3, "exit code 3"},
		{task.Spec{Argv: []string{"no-such-program"}}, task.UserError, 127, "no-such-program"},
		{task.Spec{Argv: []string{"/tmp"}}, task.UserError, 126, "/tmp"},
		{hungry, task.OutOfMemory, 137, "memory limit of 32 MiB"},
		{mounted(outside), task.UserError, -1, "containers.mounts"},
		{mounted(filepath.Join(allowed, "link")), task.UserError, -1, "which is " + outside},
		{mounted(filepath.Join(allowed, "nothing")), task.UserError, -1, "no such file"},
		{task.Spec{Argv: []string{"true"}, Image: "localhost/no-such-image:1"}, task.ImageTrouble, -1, "localhost/no-such-image:1"},
	} {
		tk := d.end(d.run(task.Seq(i+1), c.spec))
		state, o := outcome(tk, 1)
		if state != task.Failed || o.Class != c.class || o.ExitCode != c.code || !strings.Contains(o.Message, c.words) {
			t.Errorf("%v %v: %s, %+v; want %s, code %d and a word about %q", c.spec.Argv, c.spec.Mounts, state, o, c.class, c.code, c.words)
		}
	}
}

// What a program may do: nothing that its owner has not allowed.
func TestProgramIsConfined(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.UID, p.opts.GID = 1234, 1235
	must(t, os.Chmod(filepath.Dir(p.opts.TasksDir), 0o755))
	// That user is not who looks after the files here, so that the init cannot write, and
	// the container is made anew without.
	p.opts.Rules.PIDs, p.opts.Rules.ShmBytes = 64, 16<<20
	d := p.daemon(t)
	tk := d.end(d.run(1, sh("id -u; id -g; grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -d '\\t'; ls /sys/class/net; df -k /dev/shm | awk 'NR==2{print $2}'; cat /sys/fs/cgroup/pids/pids.max")))
	want := "1234\n1235\nCapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nlo\n16384\n64\n"
	if got := p.output(t, tk.Ref()); got != want {
		t.Errorf("it sees %q, want %q", got, want)
	}
	c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, tk.Ref()))
	must(t, err)
	if c.Labels[labelTask] != "task" {
		t.Errorf("labels %v", c.Labels)
	}
}

// A container that somebody removes has vanished; nobody saw how it would have ended.
func TestVanished(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	d := p.daemon(t)
	tk := d.run(1, sh("sleep 1000"))
	d.running(tk)
	must(t, p.opts.Engine.Remove(t.Context(), nameOf(p.opts.QueueID, tk.Ref())))
	tk = d.end(tk)
	if o := tk.Status().Outcome; tk.State() != task.Lost || o.Class != task.Vanished || !strings.Contains(o.Message, "removed") {
		t.Errorf("%s: %+v", tk.State(), o)
	}
}

// Queues on one engine do not touch one another, whatever their tasks are called.
func TestQueuesKeepApart(t *testing.T) {
	t.Parallel()
	e := shared(t)
	var daemons []*daemon
	var tasks []task.Task
	for range 3 {
		p := newPlace(t, e.Address())
		p.opts.LeftoverGrace = 100 * time.Millisecond
		p.opts.Needed = func(task.Ref) (bool, error) { return false, nil }
		d := p.daemon(t)
		daemons = append(daemons, d)
		tasks = append(tasks, d.run(1, sh("echo "+p.opts.QueueID+"; sleep 1000")))
	}
	for i, d := range daemons {
		d.running(tasks[i])
	}
	stopping, err := task.Apply(daemons[0].get(tasks[0].Ref()), task.Event{Kind: task.EventStopping, At: task.At(time.Now()), Attempt: 1, Cause: task.CauseCancel})
	must(t, err)
	daemons[0].sink([]task.Change{{Seq: 1, Event: task.Event{Kind: task.EventStopping, At: task.At(time.Now()), Attempt: 1, Cause: task.CauseCancel}}})
	must(t, daemons[0].Stop(t.Context(), stopping))
	if tk := daemons[0].end(tasks[0]); tk.State() != task.Cancelled {
		t.Errorf("the first is %s", tk.State())
	}
	must(t, daemons[0].Forget(t.Context(), []task.Ref{tasks[0].Ref()}))
	for i := 1; i < 3; i++ {
		c, err := daemons[i].opts.Engine.Inspect(t.Context(), nameOf(daemons[i].opts.QueueID, tasks[i].Ref()))
		if err != nil || c.Phase != docker.Running {
			t.Errorf("that of queue %d: %+v, %v", i, c, err)
		}
	}
}

// Containers of our queue that no task needs are removed after a grace; those that a
// task needs, and those of others, are not.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	e := shared(t)
	p := newPlace(t, e.Address())
	p.opts.LeftoverGrace = 200 * time.Millisecond
	p.opts.Needed = func(r task.Ref) (bool, error) { return r.Seq == 2, nil }
	ctx := t.Context()
	made := func(seq task.Seq, labels map[string]string) string {
		name := nameOf(p.opts.QueueID, task.Ref{Seq: seq, Attempt: 1})
		_, err := p.opts.Engine.Create(ctx, docker.Spec{Name: name, Image: dockertest.Shell, Command: []string{"sleep", "1000"}, Labels: labels})
		must(t, err)
		must(t, p.opts.Engine.Start(ctx, name))
		return name
	}
	ours := func(seq task.Seq) map[string]string {
		return labelsOf(p.opts.QueueID, task.New(seq, &task.Spec{ID: "old"}, 0))
	}
	unneeded, needed, foreign := made(1, ours(1)), made(2, ours(2)), made(3, nil)
	t.Cleanup(func() { must(t, p.opts.Engine.Remove(context.Background(), foreign)) })
	p.daemon(t)
	poll(t, "the removal", func() bool {
		_, err := p.opts.Engine.Inspect(ctx, unneeded)
		return err != nil
	})
	for _, name := range []string{needed, foreign} {
		if c, err := p.opts.Engine.Inspect(ctx, name); err != nil || c.Phase != docker.Running {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// A name that somebody else has taken is said to be that, and left alone.
func TestNameOfAStranger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	name := nameOf(p.opts.QueueID, task.Ref{Seq: 1, Attempt: 1})
	_, err := p.opts.Engine.Create(t.Context(), docker.Spec{Name: name, Image: dockertest.Shell})
	must(t, err)
	t.Cleanup(func() { must(t, p.opts.Engine.Remove(context.Background(), name)) })
	d := p.daemon(t)
	state, o := outcome(d.end(d.run(1, sh("true"))), 1)
	if state != task.Failed || o.Class != task.CouldNotStart || !strings.Contains(o.Message, name) {
		t.Errorf("%s: %+v", state, o)
	}
}

// An engine that sees other files gets the payload, and gives the result, by its API.
func TestRemoteEngine(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Engine = remote{p.opts.Engine}
	p.opts.UID, p.opts.GID = 1234, 1235
	d := p.daemon(t)
	s := sh(`cat "$DSPY_PAYLOAD_FILE"; cp "$DSPY_PAYLOAD_FILE" "$DSPY_RESULT_FILE"`)
	s.Payload = []byte(`{"n": 1}`)
	tk := d.end(d.run(1, s))
	if got := p.output(t, tk.Ref()); tk.State() != task.Succeeded || got != string(s.Payload) {
		t.Fatalf("%s: %+v, output %q", tk.State(), tk.Status().Outcome, got)
	}
	if r := d.result(tk.Ref()); string(r) != string(s.Payload) {
		t.Errorf("result %q", r)
	}
	bad := d.end(d.run(2, sh(`ln -s /etc/passwd "$DSPY_RESULT_FILE"`)))
	if _, o := outcome(bad, 1); o.Class != task.UserError || !strings.Contains(o.Message, "result") {
		t.Errorf("a link in place of the result: %+v", o)
	}
}

// remote is an engine that is called as if it was on another machine.
type remote struct{ Engine }

func (remote) Local() bool { return false }

// Output is complete and has nothing twice, however often the daemon goes meanwhile.
func TestOutputOverRestarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Init = ""
	const lines = 20_000
	d := p.daemon(t)
	tk := d.run(1, sh(fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); [ $((i %% 1000)) = 0 ] && sleep 0.1; done; printf end", lines)))
	for range 8 {
		tk = d.running(tk)
		size := len(p.output(t, tk.Ref()))
		poll(t, "more output", func() bool { return len(p.output(t, tk.Ref())) > size || d.get(tk.Ref()).State().Terminal() })
		d.stop()
		if tk = d.get(tk.Ref()); tk.State().Terminal() {
			break
		}
		d = p.daemon(t, tk)
	}
	d.end(tk)
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	want.WriteString("end")
	if got := p.output(t, tk.Ref()); got != want.String() {
		t.Errorf("%d bytes, want %d", len(got), want.Len())
	}
}

// The engine begins a new file of its own log while the output is followed: nothing is
// missing.
func TestOutputOverRotation(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Init, p.opts.LogCap = "", 8<<20
	d := p.daemon(t)
	const lines = 60_000
	tk := d.end(d.run(1, sh(fmt.Sprintf("awk 'BEGIN { for (i = 1; i <= %d; i++) print \"line \" i \" of an output that is long enough for its engine to begin a new file now and then\" }'", lines))))
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d of an output that is long enough for its engine to begin a new file now and then\n", i+1)
	}
	if got := p.output(t, tk.Ref()); got != want.String() {
		t.Errorf("%d bytes, want %d", len(got), want.Len())
	}
}

// A task has the network that it asks for if that is allowed, and else the usual one.
func TestNetworks(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Rules.Networks = []string{"host"}
	d := p.daemon(t)
	asking := func(network string) task.Spec {
		s := sh("ls /sys/class/net | sort | tr '\\n' ' '; readlink /proc/self/ns/net")
		s.Network = network
		return s
	}
	none, usual, host := d.end(d.run(1, asking("none"))), d.end(d.run(2, asking(""))), d.end(d.run(3, asking("host")))
	outputs := []string{p.output(t, none.Ref()), p.output(t, usual.Ref()), p.output(t, host.Ref())}
	if outputs[0] == outputs[2] || outputs[1] == outputs[2] || !strings.HasPrefix(outputs[0], "lo net:") || !strings.HasPrefix(outputs[1], "lo net:") {
		t.Errorf("none, the usual one and the host's are %q", outputs)
	}
	if _, o := outcome(d.end(d.run(4, asking("bridge"))), 1); o.Class != task.UserError || !strings.Contains(o.Message, "containers.networks") {
		t.Errorf("%+v", o)
	}
}

// The command is all of what runs, or what the image's entry point is given.
func TestImageEntrypoint(t *testing.T) {
	t.Parallel()
	e := shared(t)
	image := e.LoadStandin(t)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	s := task.Spec{Argv: []string{"exit=4"}, Image: image, ImageEntrypoint: true}
	if _, o := outcome(d.end(d.run(1, s)), 1); o.ExitCode != 4 {
		t.Errorf("with the entry point: %+v", o)
	}
	s.ImageEntrypoint = false
	if _, o := outcome(d.end(d.run(2, s)), 1); o.ExitCode != 127 {
		t.Errorf("without it: %+v", o)
	}
}

// What is printed to standard output and to standard error is told apart, also when the
// daemon goes meanwhile.
func TestStreamsApart(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	gate := filepath.Join(t.TempDir(), "gate")
	s := sh("for i in 1 2 3; do echo out $i; sleep 0.1; echo err $i >&2; sleep 0.1; done; while [ ! -e " + gate + " ]; do sleep 0.02; done; echo last >&2")
	s.Mounts = []task.Mount{{Host: filepath.Dir(gate), Target: filepath.Dir(gate)}}
	d := p.daemon(t)
	tk := d.running(d.run(1, s))
	poll(t, "the first part", func() bool { return strings.Contains(p.output(t, tk.Ref()), "err 3") })
	d.stop()
	must(t, os.WriteFile(gate, nil, 0o644))
	tk = p.daemon(t, d.get(tk.Ref())).end(tk)
	log, err := taskfiles.OpenLog(taskfiles.Layout{Dir: p.opts.TasksDir}.LogPath(task.Ref{Seq: 1, Attempt: 1}))
	must(t, err)
	defer log.Close() //nolint:errcheck // only read from
	got := map[taskfiles.Stream]string{}
	text := p.output(t, task.Ref{Seq: 1, Attempt: 1})
	for at := int64(0); at < int64(len(text)); {
		stream, until, err := log.Stream(at)
		must(t, err)
		until = min(until, int64(len(text)))
		got[stream] += text[at:until]
		at = until
	}
	if got[taskfiles.Stdout] != "out 1\nout 2\nout 3\n" || got[taskfiles.Stderr] != "err 1\nerr 2\nerr 3\nlast\n" || len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// What containers are not given is refused before it waits for anything.
func TestAdmit(t *testing.T) {
	t.Parallel()
	allowed, outside := t.TempDir(), t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(allowed, "out")))
	must(t, os.Symlink(allowed, filepath.Join(outside, "in")))
	c, err := docker.New(docker.Options{Host: "unix://" + filepath.Join(allowed, "nobody")})
	must(t, err)
	defer c.Close() //nolint:errcheck // it was never open
	b, err := New(Options{
		QueueID: "q", TasksDir: t.TempDir(), Engine: c, Logger: slog.New(slog.DiscardHandler),
		Rules: Rules{Mounts: []string{allowed}, Networks: []string{"services"}},
	})
	must(t, err)
	for path, ok := range map[string]bool{
		allowed: true, filepath.Join(allowed, "not-yet", "there"): true, filepath.Join(outside, "in", "later"): true,
		"/etc": false, "/": false, outside: false, filepath.Join(allowed, "out"): false, filepath.Join(allowed, "out", "later"): false, allowed + "-other": false,
	} {
		err := b.Admit(&task.Spec{Image: "i", Mounts: []task.Mount{{Host: path, Target: "/x"}}})
		if (err == nil) != ok || err != nil && task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("%s: %v", path, err)
		}
	}
	for target, ok := range map[string]bool{
		"/x": true, "/run/dspy-agent-2": true, "/run/dspy-agent": false, "/run/dspy-agent/sub": false, "/run/dspy-init": false, "/run/./dspy-init/": false,
	} {
		s := &task.Spec{Image: "i", Mounts: []task.Mount{{Host: allowed, Target: target}}}
		if err := b.Admit(s); (err == nil) != ok || err != nil && task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("at %s: %v", target, err)
		}
		if _, no := b.mounts(s.Mounts); (no == nil) != ok {
			t.Errorf("at %s, before it is made: %+v", target, no)
		}
	}
	for network, ok := range map[string]bool{"": true, "none": true, "services": true, "host": false, "bridge": false} {
		if err := b.Admit(&task.Spec{Image: "i", Network: network}); (err == nil) != ok {
			t.Errorf("network %q: %v", network, err)
		}
	}
}
