package process

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// connections is how many there are to the supervisor, those included that it has
// not taken yet.
func (p *place) connections(t testing.TB) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/unix")
	must(t, err)
	for line := range strings.Lines(string(b)) { // Num RefCount Protocol Flags Type St Inode Path; the one that listens has a flag
		f := strings.Fields(line)
		if len(f) == 8 && f[3] == "00000000" && f[7] == filepath.Join(p.runtime(), socketName) {
			n++
		}
	}
	return n
}

// asStopping is the task after somebody cancelled it.
func asStopping(t testing.TB, tk task.Task) task.Task {
	t.Helper()
	return apply(t, tk,
		task.Event{Kind: task.EventCancelAsked, Attempt: tk.Attempt(), By: "the test"},
		task.Event{Kind: task.EventStopping, Attempt: tk.Attempt(), Cause: task.CauseCancel})
}

// pauseSupervisor has it sleep until the function that is returned is called. It
// sleeps once every thread of it has come to the signal, which takes a moment.
func (p *place) pauseSupervisor(t testing.TB) (wake func()) {
	t.Helper()
	pid := p.runningSupervisor(t)
	must(t, unix.Kill(pid, unix.SIGSTOP))
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	poll(t, "every thread of the supervisor to stop", func() bool { return threadsStopped(t, pid) })
	return func() { must(t, unix.Kill(pid, unix.SIGCONT)) }
}

func threadsStopped(t testing.TB, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	must(t, err)
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil { // a thread that has ended meanwhile
			return false
		}
		if _, rest, ok := strings.Cut(string(b), ") "); !ok || !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return len(stats) > 0
}

// A supervisor that was asleep finds in its socket what a daemon said that is gone
// by now, and the hello of the next one. In whatever order it takes them: what was
// cancelled meanwhile was stopped, is not said to be lost, and does not begin
// after that.
func TestCancelledWhileTheSupervisorSleeps(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	began := map[string]bool{} // by file, when the end was told
	for seq := range task.Seq(20) {
		d.connected()
		wake := p.pauseSupervisor(t)
		ran := filepath.Join(p.dir, fmt.Sprint("ran", seq))
		tk := assigned(t, seq+1, sh("echo > "+ran+"; sleep 1000"))
		d.launch(tk)
		tk = asStopping(t, tk)
		must(t, d.Stop(t.Context(), tk))
		d.stop()
		before := p.connections(t)
		d = p.daemon(t, opts, tk)
		must(t, d.Stop(t.Context(), tk)) // as the engine does with what is Stopping
		poll(t, "the connection of the next daemon", func() bool { return p.connections(t) > before })
		wake()
		if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventStopped {
			t.Errorf("%s: %s", ev.Kind, ev.Text)
		}
		began[ran] = fileSize(ran) >= 0
	}
	last := assigned(t, 1000, argv("true")) // begins behind all that was handed over before
	d.launch(last)
	d.end(last.Ref())
	for ran, before := range began {
		if fileSize(ran) >= 0 && !before {
			t.Errorf("%s began after it was said to have been stopped", ran)
		}
	}
}

// What a daemon said before it went is done, though nobody is left to hear of what
// there was to tell it, and no other comes.
func TestLastWordsOfADaemon(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	for seq := range task.Seq(5) {
		gate, ran := filepath.Join(p.dir, fmt.Sprint("gate", seq)), filepath.Join(p.dir, fmt.Sprint("ran", seq))
		first := assigned(t, 2*seq+1, sh(waitFor(gate)))
		d.launch(first)
		pid := int(runningPid(t, first, d))
		wake := p.pauseSupervisor(t)
		d.launch(assigned(t, 2*seq+2, sh("echo > "+ran)))
		d.stop()
		openGate(t, gate)
		poll(t, "the end of the task", func() bool { q, ok := lookup(pid); return !ok || q.zombie() })
		wake()
		poll(t, "the task that was handed over last", func() bool { return fileSize(ran) >= 0 })
		d = p.daemon(t, opts)
	}
}

func runningPid(t testing.TB, tk task.Task, d *daemon) int32 {
	t.Helper()
	h, ok := decodeHandle(runningAs(t, tk, d).Status().Handle)
	if !ok {
		t.Fatal("no handle")
	}
	return h.PID
}

// pair is a connection: the supervisor's end, and the client's.
func pair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	must(t, err)
	defer l.Close()
	theirs, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	must(t, err)
	t.Cleanup(func() { _ = theirs.Close() })
	ours, err = l.AcceptUnix()
	must(t, err)
	t.Cleanup(func() { _ = ours.Close() })
	return ours, theirs
}

// A connection that another has replaced is not heeded any more, whatever of it has
// been read already.
func TestReplacedConnectionIsNotHeeded(t *testing.T) {
	s := bareSupervisor(t)
	q := testQueue(t, s, "q")
	q.pools = []*pool{{name: "p", limit: 1}}
	done := newAttempt(q, name(1), &supervisorpb.Claim{})
	done.phase, done.settled = ended, true
	q.attempts[done.ref] = done
	one := []*supervisorpb.Name{name(1)}
	said := []*supervisorpb.ToSupervisor{
		limitMessage(map[string]uint32{"p": 7}),
		{Kind: &supervisorpb.ToSupervisor_Start{Start: &supervisorpb.StartBatch{
			Starts: []*supervisorpb.Start{{Name: name(2), Argv: raw([]string{"true"})}}, Environments: []*supervisorpb.Environment{{}},
		}}},
		stopMessage([]task.Ref{{Seq: 3, Attempt: 1}}, nil),
		{Kind: &supervisorpb.ToSupervisor_Forget{Forget: &supervisorpb.ForgetBatch{Names: one}}},
		{Kind: &supervisorpb.ToSupervisor_Bye{Bye: &supervisorpb.Bye{}}},
	}
	old, next := &conn{s: s, q: q, out: newWaker()}, &conn{s: s, q: q, out: newWaker()}
	state := func() string {
		var seqs []task.Seq
		for ref := range q.attempts {
			seqs = append(seqs, ref.Seq)
		}
		slices.Sort(seqs)
		return fmt.Sprint(seqs, q.pools[0].limit, s.farewell)
	}
	q.conn = next
	for _, m := range said {
		s.handle(old, m)
	}
	if got := state(); got != "[1] 1 false" {
		t.Errorf("of one that was replaced: %s", got)
	}
	for _, m := range said {
		s.handle(next, m)
	}
	if got := state(); got != "[2 3] 7 true" {
		t.Errorf("of one that was not: %s", got)
	}
}

// Who said hello and went takes nobody's place, when it is heard late.
func TestHelloOfAClientThatHasGone(t *testing.T) {
	s := bareSupervisor(t)
	q := testQueue(t, s, "q")
	h := &supervisorpb.Hello{MinVersion: minVersion, MaxVersion: maxVersion, QueueId: q.id, SpoolDir: []byte(q.journal.dir)}
	hello := func(gone bool) (*conn, *supervisorpb.Fault) {
		ours, theirs := pair(t)
		if gone {
			must(t, theirs.Close())
		}
		c := &conn{s: s, nc: ours, out: newWaker()}
		return c, s.hello(c, h)
	}
	here, fault := hello(false)
	if fault != nil {
		t.Fatal(fault)
	}
	if _, fault := hello(true); fault.GetReason() != supervisorpb.Fault_REASON_REPLACED || q.conn != here {
		t.Errorf("%v; it has taken the place: %v", fault, q.conn != here)
	}
	if later, fault := hello(false); fault != nil || q.conn != later {
		t.Errorf("%v; one that waits has taken it: %v", fault, q.conn == later)
	}
}

// An attempt that was cancelled before it was said to have begun is not lost for
// the supervisor knowing nothing of it: that answers the stop.
func TestUnheardOfAndCancelled(t *testing.T) {
	ref := task.Ref{Seq: 1, Attempt: 1}
	fresh := func() task.Task { return assigned(t, 1, argv("true")) }
	notBegun := []*supervisorpb.Report{{Name: nameOf(ref), Phase: supervisorpb.Report_PHASE_ENDED, End: notBegun()}}
	for _, c := range []struct {
		name    string
		task    func(*Backend) task.Task
		reports []*supervisorpb.Report
		output  bool
		want    string
	}{
		{"not handed over", func(*Backend) task.Task { return fresh() }, nil, false, ""},
		{"cancelled", func(*Backend) task.Task { return asStopping(t, fresh()) }, nil, false, ""},
		{"cancelled and stopped", func(*Backend) task.Task { return asStopping(t, fresh()) }, notBegun, false, "stopped"},
		{"cancelled when it had begun", func(*Backend) task.Task { return asStopping(t, fresh()) }, notBegun, true, "vanished"},
		{"said to have begun", func(b *Backend) task.Task {
			h := handle{Host: b.id.Name, Machine: b.id.Machine, Boot: b.id.Boot, PIDs: b.id.PIDs, PID: noPid}
			return asStopping(t, apply(t, fresh(), task.Event{Kind: task.EventLaunched, Attempt: 1, Handle: h.encode()}))
		}, nil, false, "vanished"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := New(newPlace(t).options("q"))
			must(t, err)
			b.learn([]task.Task{c.task(b)})
			if c.output {
				must(t, b.layout.Prepare(ref))
				must(t, os.WriteFile(b.layout.LogPath(ref), nil, 0o600))
			}
			var got []task.Change
			b.takeAndTell(&session{origin: origin{where: b.id}}, &supervisorpb.Reports{Reports: c.reports, SnapshotDone: true}, snapshot{},
				func(cs []task.Change) { got = append(got, cs...) })
			if kinds := strings.Join(kindsOf(got), " "); kinds != c.want {
				t.Errorf("told %q, want %q", kinds, c.want)
			}
		})
	}
}

// warnings is what a daemon has logged.
type warnings struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *warnings) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// A supervisor that leaves has its lock for a moment when it listens no more. The
// next one is started as soon as that is over, and the daemon does not give up in
// between.
func TestSupervisorThatLeavesIsAwaited(t *testing.T) {
	p := newPlace(t)
	lock, err := host.Lock(filepath.Join(p.runtime(), lockName))
	must(t, err)
	t.Cleanup(func() { _ = lock.Close() })
	exe, err := os.Executable()
	must(t, err)
	starts, script := filepath.Join(p.dir, "starts"), filepath.Join(p.dir, "exe")
	must(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\necho >> %s\nexec %s \"$@\"\n", starts, exe), 0o700))
	said := &warnings{}
	opts := p.options("q")
	opts.Exe, opts.Logger = script, slog.New(slog.NewTextHandler(said, nil))
	d := p.daemon(t, opts)
	poll(t, "another start after the first, which found the lock taken", func() bool { return fileSize(starts) > 1 })
	must(t, lock.Close())
	d.connected()
	if text := said.String(); text != "" {
		t.Errorf("it was given up in between: %s", text)
	}
}

// Who keeps a supervisor from being started is told.
func TestLockedOut(t *testing.T) {
	p := newPlace(t)
	b, err := New(p.options("q"))
	must(t, err)
	if err := b.lockedOut(unix.ENOENT); !errors.Is(err, unix.ENOENT) || errors.Unwrap(err) != nil {
		t.Errorf("nobody has the lock: %v", err)
	}
	lock, err := host.Lock(filepath.Join(p.runtime(), lockName))
	must(t, err)
	defer lock.Close()
	msg := b.lockedOut(unix.ENOENT).Error()
	if !strings.Contains(msg, fmt.Sprintf("(pid %d) does not listen", os.Getpid())) {
		t.Errorf("we have the lock: %s", msg)
	}
}
