package process

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// patience is how long a test waits for an event that has to come.
const patience = 20 * time.Second

// place is what outlives a daemon: directories and a supervisor.
type place struct {
	dir string
}

func newPlace(t testing.TB) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "proc") // t.TempDir has names too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	p := &place{dir: dir}
	must(t, os.Mkdir(p.runtime(), 0o700))
	t.Cleanup(func() { // last, and whatever has become of the test
		p.clear(t)
		must(t, os.RemoveAll(dir))
	})
	t.Cleanup(func() {
		p.endSupervisor(t)
		b, _ := os.ReadFile(defaultLog(p.runtime()))
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", "level=ERROR"} {
			if bytes.Contains(b, []byte(bad)) {
				t.Errorf("the supervisor's log has %q", bad)
			}
		}
		if t.Failed() {
			t.Logf("log of the supervisor:\n%s", b)
		}
	})
	return p
}

// clear ends and removes what a test can leave behind: a supervisor that does not
// end, tasks, and their cgroups.
func (p *place) clear(t testing.TB) {
	t.Helper()
	if pid := p.lockHolder(); pid != 0 {
		waitGone(t, pid, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	}
	poll(t, "the end of the test's tasks", func() bool {
		table, marks, err := census()
		must(t, err)
		left := 0
		for pid, m := range marks {
			if id, _, _ := strings.Cut(m, "."); strings.HasSuffix(id, filepath.Base(p.dir)) && !table[pid].zombie() {
				left++
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return left == 0
	})
	own, err := ownCgroup()
	if err != nil {
		return
	}
	set := cgroupsDir(own, p.runtime())
	poll(t, "the removal of the test's cgroups", func() bool {
		removeCgroupsIn(set)
		err := unix.Rmdir(set)
		return err == nil || errors.Is(err, unix.ENOENT)
	})
}

func (p *place) runtime() string { return filepath.Join(p.dir, "run") }

func (p *place) options(queue string) Options {
	return Options{
		// As random as real ones: tests that run at once would find each other's
		// processes by their markers.
		QueueID: queue + filepath.Base(p.dir), TasksDir: filepath.Join(p.dir, queue, "tasks"), SpoolDir: filepath.Join(p.dir, queue, "spool"),
		RuntimeDir: p.runtime(), Logger: slog.New(slog.DiscardHandler), Idle: time.Minute,
	}
}

// lockHolder returns the pid of the supervisor; 0 = there is none. Unlike
// supervisorPid it finds one that is leaving, which listens no more and has the
// journals still.
func (p *place) lockHolder() int { return host.Holder(filepath.Join(p.runtime(), lockName)) }

// supervisorPid returns the pid of the supervisor that listens; 0 = none does.
func (p *place) supervisorPid(t testing.TB) int {
	t.Helper()
	c, err := dial(filepath.Join(p.runtime(), socketName))
	if err != nil {
		return 0
	}
	defer c.Close()
	peer, err := host.PeerOf(c)
	must(t, err)
	return int(peer.PID)
}

// runningSupervisor is the pid of the supervisor, which is there or about to be: to signal
// the 0 of none would signal the group of this very process.
func (p *place) runningSupervisor(t testing.TB) (pid int) {
	t.Helper()
	poll(t, "the supervisor", func() bool {
		pid = p.supervisorPid(t)
		return pid != 0
	})
	return pid
}

// endSupervisor ends the supervisor and waits until it is gone.
func (p *place) endSupervisor(t testing.TB) { p.signalSupervisor(t, unix.SIGTERM) }

func (p *place) signalSupervisor(t testing.TB, sig unix.Signal) {
	t.Helper()
	pid := p.lockHolder()
	if pid == 0 {
		return
	}
	waitGone(t, pid, func() {
		if err := unix.Kill(pid, sig); !errors.Is(err, unix.ESRCH) { // it may have left by itself
			must(t, err)
		}
	})
}

// waitGone runs f and waits until the process has ended.
func waitGone(t testing.TB, pid int, f func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	must(t, err)
	defer unix.Close(fd)
	f()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(patience.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("process %d does not end (%v)", pid, err)
		}
		return
	}
}

// daemon is a Backend with somebody who watches it.
type daemon struct {
	*Backend
	t    testing.TB
	stop func()

	mu     sync.Mutex
	events map[task.Ref][]task.Change
	moved  chan struct{}
}

func (p *place) daemon(t testing.TB, opts Options, active ...task.Task) *daemon {
	t.Helper()
	return p.daemonWith(t, opts, map[task.Ref][]task.Change{}, active...)
}

// daemonWith is a daemon that knows what was reported to one before it.
func (p *place) daemonWith(t testing.TB, opts Options, events map[task.Ref][]task.Change, active ...task.Task) *daemon {
	t.Helper()
	b, err := New(opts)
	must(t, err)
	return p.watch(t, b, events, active...)
}

func (p *place) watch(t testing.TB, b *Backend, events map[task.Ref][]task.Change, active ...task.Task) *daemon {
	t.Helper()
	d := &daemon{Backend: b, t: t, events: events, moved: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Watch(ctx, active, d.sink); err != nil {
			t.Errorf("Watch: %v", err)
		}
	}()
	d.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) sink(changes []task.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		ref := task.Ref{Seq: c.Seq, Attempt: c.Event.Attempt}
		d.events[ref] = append(d.events[ref], c)
	}
	close(d.moved)
	d.moved = make(chan struct{})
}

// await waits until the attempt has an event of one of the kinds.
func (d *daemon) await(ref task.Ref, kinds ...task.EventKind) task.Change {
	d.t.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		for _, c := range d.events[ref] {
			if slices.Contains(kinds, c.Event.Kind) {
				d.mu.Unlock()
				return c
			}
		}
		moved, have := d.moved, d.events[ref]
		d.mu.Unlock()
		select {
		case <-moved:
		case <-late:
			d.t.Fatalf("no %v for %v; there are %v (down: %q)", kinds, ref, kindsOf(have), d.Down())
		}
	}
}

// end waits for the end of the attempt.
func (d *daemon) end(ref task.Ref) task.Change {
	d.t.Helper()
	return d.await(ref, ends...)
}

var ends = []task.EventKind{task.EventExited, task.EventStopped, task.EventVanished, task.EventNotStarted}

func (d *daemon) launch(tasks ...task.Task) {
	d.t.Helper()
	must(d.t, d.Launch(context.Background(), tasks))
}

// connected waits until the daemon has a supervisor.
func (d *daemon) connected() {
	d.t.Helper()
	poll(d.t, "the connection", func() bool { return d.Down() == "" })
}

func kindsOf(cs []task.Change) []string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Event.Kind.String())
	}
	return out
}

func assigned(t testing.TB, seq task.Seq, spec task.Spec) task.Task {
	t.Helper()
	spec.ID, spec.Class = "t", "cpu_short"
	if spec.Env == nil {
		spec.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	}
	tk := task.New(seq, &spec, 0)
	return apply(t, tk, task.Event{Kind: task.EventPlaced, Attempt: 1, At: 1, Backend: Name})
}

func apply(t testing.TB, tk task.Task, evs ...task.Event) task.Task {
	t.Helper()
	for _, ev := range evs {
		var err error
		tk, err = task.Apply(tk, ev)
		must(t, err)
	}
	return tk
}

func argv(words ...string) task.Spec { return task.Spec{Argv: words} }

func sh(script string) task.Spec { return argv("/bin/sh", "-c", script) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// poll waits for what nobody tells the test about.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s does not come", what)
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
