package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/hosttest"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	store "github.com/dspy-agent/dspy-agent/queue"
)

// Hosts that a test makes up: each has namespaces of its own, a boot id, a machine id,
// a name and a runtime directory, and they share the folder of a queue. The first
// process of a host only starts and ends daemons there; they and their supervisors are
// the real ones, with the real queue and the real engine.

// hostEnv says what a process of the test binary is to be on such a host.
const hostEnv = "DSPY_PROCESS_TEST_HOST"

// hostSetup is what those processes are told.
type hostSetup struct {
	hosttest.Identity
	Daemon         bool   // else the first process
	Queue, Runtime string // folders
	TakeOver       bool
	Freeze         int // the daemon stops itself before it hands over for the so manieth time
	Lose           int // what it is to hand over then is not handed over, as if it had been killed
}

// hostsMain is main for those processes; false in all others.
func hostsMain() bool {
	text := os.Getenv(hostEnv)
	if text == "" {
		return false
	}
	var s hostSetup
	err := json.Unmarshal([]byte(text), &s)
	switch {
	case err != nil:
	case s.Daemon:
		err = (&hostDaemon{setup: s}).run()
	default:
		err = s.first()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, s.Name, err)
		os.Exit(1)
	}
	return true
}

// first is the first process of a host. It does what begins with "host", and passes on
// the rest to its daemon.
func (s hostSetup) first() error {
	if err := s.Assume(); err != nil {
		return err
	}
	var daemon *exec.Cmd
	var to *json.Encoder
	return hosttest.Words(func(words []string) error {
		if words[0] != "host" {
			return to.Encode(words)
		}
		err := error(nil)
		switch words[1] {
		case "start":
			var pipe io.Writer
			if daemon, pipe, err = s.start(words[2:]...); err == nil {
				to = json.NewEncoder(pipe)
			}
		case "kill":
			err = errors.Join(daemon.Process.Kill(), orKilled(daemon.Wait()))
		case "thaw":
			err = daemon.Process.Signal(syscall.SIGCONT)
		case "kill the supervisor":
			err = s.killSupervisor()
		}
		if err != nil {
			return fmt.Errorf("%v: %w", words, err)
		}
		fmt.Println("ok")
		return nil
	})
}

// orKilled leaves out that a process was killed, which was wanted.
func orKilled(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func (s hostSetup) start(how ...string) (*exec.Cmd, io.Writer, error) {
	s.Daemon, s.TakeOver = true, slices.Contains(how, taken)
	for n := range 3 { // the first call of Launch is 1
		if slices.Contains(how, freezes(n)) {
			s.Freeze = n
		}
		if slices.Contains(how, loses(n)) {
			s.Lose = n
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), hostEnv+"="+string(b))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, in, cmd.Start()
}

func (s hostSetup) killSupervisor() error {
	pid := host.Holder(filepath.Join(s.Runtime, lockName))
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	return err
}

// hostDaemon is a daemon on such a host: a queue, its engine, and this backend.
type hostDaemon struct {
	setup  hostSetup
	queue  *store.Queue
	engine *engine.Engine
	stop   func() error
}

// faulty is a backend whose daemon stops itself between the engine's last look whether
// the queue is its own and the hand-over, or never comes to that.
type faulty struct {
	*Backend
	setup hostSetup
	calls int
}

func (f *faulty) Launch(ctx context.Context, tasks []task.Task) error {
	switch f.calls++; f.calls {
	case f.setup.Freeze:
		fmt.Println("frozen")
		// Sent to this very thread, it takes hold before the call returns. Sent to the process,
		// another thread may take it, and this one may hand over in time.
		runtime.LockOSThread()
		err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
		runtime.UnlockOSThread()
		if err != nil {
			return err
		}
	case f.setup.Lose:
		return nil
	}
	return f.Backend.Launch(ctx, tasks)
}

func (d *hostDaemon) open(ctx context.Context) (err error) {
	s := d.setup
	d.queue, err = store.Open(ctx, store.Options{Dir: s.Queue, TakeOver: s.TakeOver, LockTimeout: time.Second})
	if err != nil {
		return err
	}
	q := d.queue
	b, err := New(Options{
		QueueID: q.ID(), TasksDir: filepath.Join(s.Queue, "tasks"), SpoolDir: filepath.Join(s.Queue, "spool"), RuntimeDir: s.Runtime,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), NoCgroups: true, LookEvery: 50 * time.Millisecond,
		LeaseUntil: q.LeaseUntil, Fence: q.Fence(), BaseEnv: []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
		Pool: func(task.Task) (string, int) { return "one at a time", 1 },
	})
	if err != nil {
		return err
	}
	d.engine, err = engine.New(engine.Options{
		Store: q, Backends: []engine.Registration{{Backend: &faulty{Backend: b, setup: s}, Local: true, NoImage: true}},
		Classes: map[string]engine.Class{"c": {Name: "c", Backends: []string{Name}}}, Capacity: scheduler.Capacity{CPUMilli: 8000, MemBytes: 1 << 40},
		Wake: q.Changed(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.engine.Run(ctx) }()
	d.stop = func() error {
		cancel()
		return errors.Join(<-done, q.Close())
	}
	return nil
}

func (d *hostDaemon) run() error {
	in := json.NewDecoder(os.Stdin)
	for {
		var words []string
		if in.Decode(&words) != nil {
			return nil
		}
		said, err := d.answer(context.Background(), words)
		if err != nil {
			said = "error: " + err.Error()
		}
		fmt.Println(strings.ReplaceAll(said, "\n", " "))
		if words[0] == "close" {
			return nil
		}
	}
}

func (d *hostDaemon) answer(ctx context.Context, words []string) (string, error) {
	switch words[0] {
	case "open":
		return "ok", d.open(ctx)
	case "submit":
		_, err := d.queue.Submit(ctx, []*task.Spec{{ID: words[1], Class: "c", Argv: []string{"/bin/sh", "-c", words[2]}}})
		return "ok", err
	case "cancel":
		t, err := d.queue.Lookup(words[1])
		if err == nil {
			_, err = d.engine.Cancel(ctx, t, "the test", "")
		}
		return "ok", err
	case "await": // a task, and a part of what is said of it
		return d.await(words[1], words[2])
	case "deposed":
		<-d.queue.Deposed()
		return "ok", nil
	case "check":
		return "ok", d.queue.Check(ctx)
	case "close":
		return "ok", d.stop()
	}
	return "", fmt.Errorf("what is %v?", words)
}

func (d *hostDaemon) await(id, part string) (string, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		t, err := d.queue.Lookup(id)
		if err != nil {
			return "", err
		}
		r, err := d.queue.Result(t.Seq)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		st := t.Status()
		said := fmt.Sprintf("%s attempt %d on %q code %d result %s: %s %s", st.State, st.Attempt, st.Outcome.Node, st.Outcome.ExitCode, r, st.Detail, st.Outcome.Message)
		if strings.Contains(said, part) {
			return said, nil
		}
		select {
		case <-tick.C:
		case <-late:
			return "", fmt.Errorf("%s is %s, and not %s", id, said, part)
		}
	}
}

// hosts is a folder that several hosts share.
type hosts struct {
	t     *testing.T
	dir   string
	count int
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	dir, err := os.MkdirTemp("", "hosts")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Mkdir(filepath.Join(dir, "q"), 0o700))
	return &hosts{t: t, dir: dir}
}

// onHost is one of them.
type onHost struct {
	*hosttest.Process
	t   *testing.T
	run string // its runtime directory
}

// boot starts a host. n says which machine, and boot which of its boots.
func (w *hosts) boot(n, boot int) *onHost {
	w.t.Helper()
	w.count++
	digit := fmt.Sprint(n)
	s := hostSetup{
		Identity: hosttest.Identity{
			Boot: fmt.Sprintf("%s-0000-4000-8000-%012d", strings.Repeat(digit, 8), boot), Machine: strings.Repeat(digit, 32), Name: "login" + digit,
		},
		Queue: filepath.Join(w.dir, "q"), Runtime: filepath.Join(w.dir, fmt.Sprint("run", w.count)),
	}
	if boot > 1 {
		s.Boot = fmt.Sprintf("%08d%s", boot, s.Boot[8:])
	}
	must(w.t, os.Mkdir(s.Runtime, 0o700))
	b, err := json.Marshal(s)
	must(w.t, err)
	h := &onHost{hosttest.Start(w.t, true, hostEnv+"="+string(b), envHasty+"=1"), w.t, s.Runtime}
	w.t.Cleanup(h.crash)
	return h
}

// crash ends all that runs on the host, as a loss of power does.
func (h *onHost) crash() {
	h.Kill()
	if h.t.Failed() {
		b, _ := os.ReadFile(defaultLog(h.run))
		h.t.Logf("log of the supervisor in %s:\n%s", h.run, b)
	}
}

// do has something done.
func (h *onHost) do(words ...string) string {
	h.t.Helper()
	said := h.Ask(words...)
	if strings.HasPrefix(said, "error") {
		h.t.Fatalf("%v: %s", words, said)
	}
	return said
}

// How a daemon is started: to take the queue over, to freeze before it hands over for
// the n-th time, or not to hand over what it should then.
const taken = "take over"

func freezes(n int) string { return fmt.Sprint("freeze ", n) }

func loses(n int) string { return fmt.Sprint("lose ", n) }

// start starts a daemon that owns the queue.
func (h *onHost) start(how ...string) {
	h.t.Helper()
	h.do(append([]string{"host", "start"}, how...)...)
	h.do("open")
}

// await waits until what is said of a task has that in it.
func (h *onHost) await(id, part string) string {
	h.t.Helper()
	return h.do("await", id, part)
}

// runs returns how often the task has begun.
func (w *hosts) runs(id string) int {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, id+".runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// script is a program that notes that it begins, and waits for the task's gate.
func (w *hosts) script(id, last string) string {
	return fmt.Sprintf("echo $$ >> %[1]s/%[2]s.runs; echo begins; while ! [ -e %[1]s/%[2]s.gate ]; do sleep 0.02; done; echo ends; %[3]s", w.dir, id, last)
}

func (w *hosts) open(id string) {
	w.t.Helper()
	must(w.t, os.WriteFile(filepath.Join(w.dir, id+".gate"), nil, 0o600))
}

// facts returns what the journals of all hosts say of a task's first attempt.
func (w *hosts) facts(seq task.Seq) (out []*fact) {
	dirs, err := filepath.Glob(filepath.Join(w.dir, "q", "spool", "*"))
	must(w.t, err)
	for _, dir := range dirs {
		f := &foreignSpool{dir: dir}
		if f.look(time.Now()) == nil {
			if found := f.facts[task.Ref{Seq: seq, Attempt: 1}]; found != nil {
				out = append(out, found)
			}
		}
	}
	return out
}
