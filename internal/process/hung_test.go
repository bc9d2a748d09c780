package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// A supervisor that hangs holds up neither Launch nor Stop nor the end of Watch,
// however much there is to send.
func TestHungSupervisorHangsNobody(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	d.connected()
	pid := p.runningSupervisor(t)
	must(t, unix.Kill(pid, unix.SIGSTOP))
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	big := argv("true", strings.Repeat("x", 100<<10))
	var tasks []task.Task
	for seq := task.Seq(1); seq <= 50; seq++ {
		tasks = append(tasks, assigned(t, seq, big))
	}
	begin := time.Now()
	d.launch(tasks...)
	must(t, d.Stop(t.Context(), tasks[49])) // recorded, whether or not it could be sent
	if took := time.Since(begin); took > 2*sendPatience+time.Second {
		t.Fatalf("Launch and Stop took %s", took)
	}
	poll(t, "the loss of the connection", func() bool { return d.Down() != "" })
	if !strings.Contains(d.Down(), "does not answer") {
		t.Fatalf("down: %s", d.Down())
	}
	begin = time.Now()
	d.launch(tasks[0])
	if took := time.Since(begin); took > time.Second {
		t.Fatalf("Launch without a connection took %s", took)
	}
	must(t, unix.Kill(pid, unix.SIGCONT))
	for _, tk := range tasks {
		d.end(tk.Ref())
	}
	if c := d.await(tasks[49].Ref(), ends...); c.Event.Kind != task.EventStopped && c.Event.Kind != task.EventExited {
		t.Fatalf("the stopped one: %v", c.Event.Kind)
	}
}

// A task whose files cannot be made ends by that, and keeps back no other.
func TestUnpreparableTaskIsAlone(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	must(t, os.MkdirAll(opts.TasksDir, 0o700))
	must(t, os.WriteFile(filepath.Join(opts.TasksDir, "5"), nil, 0o600))
	d := p.daemon(t, opts)
	bad, good := assigned(t, 5*taskfiles.ShardSize, argv("true")), assigned(t, 1, argv("true"))
	d.launch(bad, good)
	ev := d.end(bad.Ref()).Event
	if ev.Kind != task.EventNotStarted || ev.Class != task.CouldNotStart || !strings.Contains(ev.Text, "cannot be prepared") {
		t.Fatalf("event %+v", ev)
	}
	apply(t, bad, ev)
	if ev := d.end(good.Ref()).Event; ev.Kind != task.EventExited {
		t.Fatalf("event %+v", ev)
	}
}

// What is handed over before there is a connection starts as soon as there is.
func TestLaunchBeforeConnection(t *testing.T) {
	p := newPlace(t)
	b, err := New(p.options("q"))
	must(t, err)
	if b.Down() != connecting {
		t.Fatalf("down: %q", b.Down())
	}
	tk := assigned(t, 1, argv("true"))
	must(t, b.Launch(t.Context(), []task.Task{tk}))
	d := p.watch(t, b, map[task.Ref][]task.Change{})
	d.end(tk.Ref())
}

func TestBatchesAreSplitByBytes(t *testing.T) {
	bt := &batch{}
	env := []string{"A=" + strings.Repeat("a", 1<<20)}
	for seq := range uint64(40) {
		bt.add(&supervisorpb.Start{Name: &supervisorpb.Name{Seq: seq}, Argv: raw([]string{strings.Repeat("x", 1<<20)})}, env)
	}
	n := 0
	for _, m := range bt.msgs {
		n += len(m.GetStarts())
		if len(m.GetEnvironments()) != 1 || len(m.GetStarts()) > 8 {
			t.Fatalf("%d starts and %d environments in a message", len(m.GetStarts()), len(m.GetEnvironments()))
		}
	}
	if n != 40 {
		t.Fatalf("%d starts, want 40", n)
	}
}

// Whatever order a time limit and an end come in, the table of moves allows what
// is told, from any point on.
func TestTimeLimitAndEndAreLegal(t *testing.T) {
	p := newPlace(t)
	b, err := New(p.options("q"))
	must(t, err)
	ss := &session{origin: origin{where: b.id}}
	for _, kind := range []supervisorpb.End_Kind{supervisorpb.End_KIND_EXITED, supervisorpb.End_KIND_VANISHED} {
		for _, unprompted := range []bool{false, true} {
			for _, before := range []told{toldNothing, toldRunning, toldStopping} {
				r := &supervisorpb.Report{
					Name: nameOf(task.Ref{Seq: 1, Attempt: 1}), Phase: supervisorpb.Report_PHASE_RUNNING, Pid: 7,
					Cause: supervisorpb.StopCause_STOP_CAUSE_TIMEOUT,
				}
				var cs []task.Change
				told := toldNothing
				if before == toldRunning {
					r.Cause = supervisorpb.StopCause_STOP_CAUSE_UNSPECIFIED
				}
				if before != toldNothing {
					cs, told = b.changes(nil, &ss.origin, r, told)
				}
				r.Cause, r.Phase = supervisorpb.StopCause_STOP_CAUSE_TIMEOUT, supervisorpb.Report_PHASE_ENDED
				r.End = &supervisorpb.End{Kind: kind, Unprompted: unprompted}
				cs, _ = b.changes(cs, &ss.origin, r, told)
				tk := assigned(t, 1, argv("true"))
				for _, c := range cs {
					tk = apply(t, tk, c.Event)
				}
				if tk.State().Active() {
					t.Errorf("%v unprompted=%v before=%d: still %s", kind, unprompted, before, tk.State())
				}
			}
		}
	}
}

// Without pidfds a task of a killed supervisor is followed by looking.
func TestFollowWithoutPidfds(t *testing.T) {
	old := pidfdOpen
	pidfdOpen = func(int, int) (int, error) { return -1, unix.ENOSYS }
	defer func() { pidfdOpen = old }()
	f := newFollower(nil)
	defer func() { _ = unix.Close(f.epoll); _ = unix.Close(f.stop) }()
	q, ok := lookup(os.Getpid())
	if !ok {
		t.Fatal("cannot look at ourselves")
	}
	a := &attempt{proc: proc{pid: q.pid, from: q.start, to: q.start}}
	if !f.add(a) || f.watched[-q.pid] != a {
		t.Fatalf("watched %v", f.watched)
	}
	f.s = &supervisor{}
	if !f.pollOnce() {
		t.Fatal("it is said to have ended")
	}
}
