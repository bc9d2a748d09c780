package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// pipe is an output that is no terminal, and that a test can wait on.
type pipe struct {
	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{}
}

func newPipe() *pipe { return &pipe{more: make(chan struct{}, 1)} }

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Write(b)
	select {
	case p.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *pipe) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

func (p *pipe) await(t *testing.T, want string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for !strings.Contains(p.text(), want) {
		select {
		case <-p.more:
		case <-late:
			t.Fatalf("%q did not come, but %q", want, p.text())
		}
	}
}

// TestWatchOutlivesTheDaemon: a daemon that goes away before the first event is
// waited for, a pipe is told, and what happened meanwhile is not missed.
func TestWatchOutlivesTheDaemon(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "sleep")
	ctx, cancel := context.WithCancelCause(t.Context())
	out, errs := newPipe(), newPipe()
	env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch"}, out, errs
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	<-f.waits
	f.stop()
	errs.await(t, "the daemon went away; waiting up to 30s for it to come back\n")
	f.end("a", task.Failed, failure(3))
	f.serve(t)
	errs.await(t, "the daemon is back\n")
	out.await(t, "\ta\tfailed\ttask_failed\t\n")
	if n := strings.Count(out.text(), "\n"); n != 1 {
		t.Errorf("what was before was told as well: %q", out.text())
	}
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestWatchGivesUp: a daemon that does not come back ends the watch with the code
// for that, in a pipe and on a terminal.
func TestWatchGivesUp(t *testing.T) {
	for _, onTerminal := range []bool{false, true} {
		f, env := startFake(t)
		term, errs := newTerminal(t, 100, 24), newPipe()
		env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch"}, newPipe(), errs
		if onTerminal {
			env.Stdout = term.tty
		}
		s := newSession(env)
		s.reconnectFor = time.Millisecond
		done := make(chan int, 1)
		go func() { done <- s.run(t.Context()) }()
		<-f.waits
		f.stop()
		if code := <-done; code != exitNoDaemon {
			t.Errorf("on a terminal %v: exit %d", onTerminal, code)
		}
		errs.await(t, "the daemon went away and was not back after 1ms: no daemon is running for workspace")
	}
}

// TestTerminalWatchShowsTheAbsence: the terminal says that it waits, and goes on.
func TestTerminalWatchShowsTheAbsence(t *testing.T) {
	f, env := startFake(t)
	term := newTerminal(t, 40, 24)
	ctx, cancel := context.WithCancelCause(t.Context())
	env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch"}, term.tty, term.tty
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	<-f.waits
	f.stop()
	term.await(t, "waiting for the daemon...")
	f.serve(t)
	<-f.waits
	expect(t, env, exitDone, "new", "", "submit", "--id", "new", "--", "sleep")
	term.await(t, "new ")
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestEachAbsenceHasItsOwnTime: that a daemon was away once, long ago, does not
// shorten the wait for it now.
func TestEachAbsenceHasItsOwnTime(t *testing.T) {
	f, env := startFake(t)
	env.Stdout, env.Stderr = newPipe(), newPipe()
	s := newSession(env)
	now := time.Now()
	s.now = func() time.Time { return now }
	cfg, err := config.Load(config.Given{WorkspaceFlag: "", Cwd: s.env.Cwd, Lookup: s.env.getenv})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := dial(t.Context(), cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cl.close() }()
	broke := task.Errorf(task.CodeUnavailable, "the connection broke")
	gone := absence{s: s, cl: cl}
	if err := gone.over(t.Context(), broke); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	f.stop()
	told := make(chan struct{})
	gone.away = func() { close(told) }
	done := make(chan error, 1)
	go func() { done <- gone.over(t.Context(), broke) }()
	<-told
	f.serve(t)
	if err := <-done; err != nil {
		t.Errorf("the second absence: %v", err)
	}
	if err := gone.over(t.Context(), task.Errorf(task.CodeNotFound, "gone")); task.CodeOf(err) != task.CodeNotFound {
		t.Errorf("an error of another kind: %v", err)
	}
}

// TestWaitOutlivesTwoAbsences: a wait goes on however often the daemon is replaced.
func TestWaitOutlivesTwoAbsences(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "sleep")
	out, errs := newPipe(), newPipe()
	env.Args, env.Stdout, env.Stderr = []string{Program, "wait", "a"}, out, errs
	done := make(chan int, 1)
	go func() { done <- Main(t.Context(), env) }()
	for range 2 {
		<-f.waits
		f.stop()
		f.serve(t)
	}
	<-f.waits
	f.end("a", task.Succeeded, &pb.Outcome{})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d, %s", code, errs.text())
	}
}

// TestSubmitIsRepeatable: a submission whose answer is lost is sent again under the
// same id, and where that does not help either, the id is told.
func TestSubmitIsRepeatable(t *testing.T) {
	f, env := startFake(t)
	f.drop = 1
	out := expect(t, env, exitDone, "01", "", "submit", "--", "true")
	if len(f.tasks) != 1 || f.tasks[0].GetId() != strings.TrimSpace(out) {
		t.Errorf("%d tasks, printed %q", len(f.tasks), out)
	}
	f.drop = 1
	if out := expect(t, env, exitDone, `"id":"01`, "", "submit", "--json", "--", "true"); strings.Contains(out, "existing") {
		t.Errorf("a new task is told as an old one: %s", out)
	}
	f.drop = 2
	_, _, said := dspyAgent(t, env, "submit", "--", "false")
	id := f.tasks[2].GetId()
	if len(f.tasks) != 3 || !strings.Contains(said, "It is not known whether task "+id+" was accepted: dspy-agent show "+id+" tells.") {
		t.Errorf("%d tasks, said %q", len(f.tasks), said)
	}
	f.drop = 2
	expect(t, env, exitNoDaemon, "", "Submitting the same again is safe with --id mine: it is stored once.", "submit", "--id", "mine", "--", "true")
}

// TestRefusedIsNotUnknown: where the daemon itself has said no, the task is nowhere.
func TestRefusedIsNotUnknown(t *testing.T) {
	s := newSession(testEnv(t))
	err := s.unknown(t.Context(), "mine", true, errors.New("the daemon is stopping"))
	if msg := err.Error(); !strings.Contains(msg, "Task mine was not accepted. Submitting it again is safe") || strings.Contains(msg, "not known") {
		t.Errorf("it says %q", msg)
	}
}
