package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// terminal is a real one, of which a test reads what a person would see.
type terminal struct {
	tty  *os.File
	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{} // something came
	end  chan struct{}
}

func newTerminal(t *testing.T, cols, rows uint16) *terminal {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(tty, &pty.Winsize{Cols: cols, Rows: rows}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{tty: tty, more: make(chan struct{}, 1), end: make(chan struct{})}
	go func() {
		defer close(term.end)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			select {
			case term.more <- struct{}{}:
			default:
			}
			if err != nil {
				return // EIO: the last writer closed its side
			}
		}
	}()
	t.Cleanup(func() {
		_ = tty.Close()
		<-term.end
		_ = master.Close()
	})
	return term
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.String()
}

// await returns when the terminal shows the text.
func (term *terminal) await(t *testing.T, want string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for !strings.Contains(term.text(), want) {
		select {
		case <-term.more:
		case <-late:
			t.Fatalf("%q did not come; the terminal shows %q", want, term.text())
		}
	}
}

// run runs a command on the terminal, and returns its exit code and the screen.
func (term *terminal) run(t *testing.T, env Env, args ...string) (int, string) {
	t.Helper()
	env.Args, env.Stdout, env.Stderr = append([]string{Program}, args...), term.tty, term.tty
	code := Main(t.Context(), env)
	mark := fmt.Sprintf("<end of %s>", args[0])
	_, _ = fmt.Fprint(term.tty, mark)
	term.await(t, mark)
	return code, strings.ReplaceAll(term.text(), "\r\n", "\n")
}

func TestTerminalList(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--name", strings.Repeat("long ", 40), "--", "false")
	_, screen := newTerminal(t, 100, 24).run(t, env, "ps")
	for _, want := range []string{"\x1b[31mfailed\x1b[0m", "just now", "…", "\x1b[1mID"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in %q", want, screen)
		}
	}
	for line := range strings.Lines(stripANSI(screen)) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 && !strings.Contains(line, "<end") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	for _, unwanted := range []string{"NO_COLOR=1", "TERM=dumb"} {
		plain := env
		plain.Environ = append(plain.Environ, unwanted, "LC_ALL=C")
		_, screen := newTerminal(t, 70, 24).run(t, plain, "ps")
		if strings.Contains(screen, "\x1b") || strings.Contains(screen, "…") {
			t.Errorf("%s: %q", unwanted, screen)
		}
	}
	forced := env
	forced.Environ = append(forced.Environ, "CLICOLOR_FORCE=1")
	if out := expect(t, forced, exitDone, "\x1b[31mfailed", "", "ps"); !strings.Contains(out, "\t") {
		t.Errorf("a pipe has no tabs: %q", out)
	}
	if out := expect(t, env, exitDone, "failed", "", "ps"); strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe: %q", out)
	}
}

// TestTerminalNarrow: what a task is doing can be read at any width, and whose
// line it is.
func TestTerminalNarrow(t *testing.T) {
	_, env := startFake(t)
	const id = "01M8Z3QKV7T2N5W9X4Y6GB6MAA"
	expect(t, env, exitDone, id, "", "submit", "--id", id, "--name", strings.Repeat("long ", 40), "--", "exit", "3")
	expect(t, env, exitDone, "b", "", "submit", "--id", "b", "--name", strings.Repeat("long ", 40), "--", "sleep")
	for _, tc := range []struct {
		cols   uint16
		header string
		id     string
	}{
		{140, "ID NAME CLASS STATE TRY SUBMITTED RAN DETAIL", id},
		{84, "ID NAME STATE TRY AGE RAN DETAIL", id},
		{76, "ID NAME STATE AGE RAN DETAIL", id},
		{66, "ID NAME STATE RAN DETAIL", id},
		{50, "ID NAME STATE RAN DETAIL", `01M8\w+…\w+6MAA`},
		{43, "ID NAME STATE RAN DETAIL", `01M8\w*…\w*6MAA`},
	} {
		_, screen := newTerminal(t, tc.cols, 24).run(t, env, "ps")
		plain, _, _ := strings.Cut(stripANSI(screen), "<end")
		lines := strings.Split(plain, "\n")
		if got := strings.Join(strings.Fields(lines[0]), " "); got != tc.header {
			t.Errorf("%d columns: the header is %q, want %q", tc.cols, got, tc.header)
		}
		for _, want := range []string{" failed ", " running ", "\n" + tc.id + " "} {
			if !regexp.MustCompile(want).MatchString(plain) {
				t.Errorf("%d columns: no %q in\n%s", tc.cols, want, plain)
			}
		}
		for _, line := range lines {
			if n := len([]rune(line)); n > int(tc.cols) {
				t.Errorf("%d columns: %d in %q", tc.cols, n, line)
			}
		}
	}
}

func TestTerminalFooterAndHints(t *testing.T) {
	_, env := startFake(t)
	for i := range 5 {
		expect(t, env, exitDone, "t", "", "submit", "--id", fmt.Sprintf("t%d", i), "--", "true")
	}
	if _, screen := newTerminal(t, 100, 24).run(t, env, "ps", "-n", "2"); !strings.Contains(screen, "... and 3 more; --limit 0: all") {
		t.Errorf("no footer in %q", screen)
	}
	if _, screen := newTerminal(t, 100, 24).run(t, env, "ps", "--state", "lost"); !strings.Contains(screen, "no tasks that are lost") {
		t.Errorf("an empty list shows %q", screen)
	}
	if _, screen := newTerminal(t, 100, 24).run(t, env, "submit", "--id", "f", "--wait", "--", "exit", "3"); !strings.Contains(screen, "ended with exit code 3\x1b[0m; its output: dspy-agent logs f") {
		t.Errorf("submit --wait shows %q", screen)
	}
	if _, screen := newTerminal(t, 100, 24).run(t, env, "submit", "--id", "n", "--", "true"); !strings.Contains(screen, "dspy-agent logs n --follow") {
		t.Errorf("submit shows %q", screen)
	}
}

func TestTerminalProgress(t *testing.T) {
	_, env := startFake(t)
	path := filepath.Join(env.Cwd, "tasks.jsonl")
	if err := os.WriteFile(path, []byte(strings.Repeat(`{"argv": ["true"]}`+"\n", 2500)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, screen := newTerminal(t, 100, 24).run(t, env, "submit", "--from-file", path)
	if code != exitDone || !strings.Contains(screen, "submitting") || !strings.Contains(screen, "/2500") || !strings.Contains(screen, "2,500 accepted, 0 already there, 0 refused") {
		t.Errorf("exit %d, screen %q", code, screen)
	}
}

func TestTerminalInterrupt(t *testing.T) {
	f, env := startFake(t)
	term := newTerminal(t, 100, 24)
	ctx, cancel := context.WithCancelCause(t.Context())
	env.Args, env.Stdout, env.Stderr = []string{Program, "submit", "--id", "long", "--wait", "--", "sleep"}, term.tty, term.tty
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	<-f.waits
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
	term.await(t, "To end it: dspy-agent cancel long")
}

// TestTerminalWait: who waits sees how far the task is, and nothing of it is left when it
// has ended.
func TestTerminalWait(t *testing.T) {
	f, env := startFake(t)
	term := newTerminal(t, 100, 24)
	env.Args, env.Stdout, env.Stderr = []string{Program, "submit", "--id", "long", "--wait", "--", "sleep"}, term.tty, term.tty
	done := make(chan int, 1)
	go func() { done <- Main(t.Context(), env) }()
	term.await(t, "\r\x1b[Klong running for ")
	f.end("long", task.Succeeded, nil)
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
	term.await(t, "\r\x1b[K\x1b[1mlong\x1b[0m")
}

func TestTerminalWatch(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "sleep")
	term := newTerminal(t, 100, 24)
	ctx, cancel := context.WithCancelCause(t.Context())
	env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch"}, term.tty, term.tty
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	<-f.waits // the stream of events is open
	term.await(t, "\x1b[34mrunning")
	term.await(t, "1 active")
	f.end("a", task.Failed, &pb.Outcome{ExitCode: 3, Message: "ended with exit code 3"})
	term.await(t, "ended with exit code 3")
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
	term.await(t, leaveScreen)
	if !strings.HasPrefix(term.text(), enterScreen) {
		t.Errorf("the terminal shows %q", term.text())
	}
}

// TestTerminalWatchOfMany: what runs is on the screen, however many were submitted since,
// and a line says how many are not.
func TestTerminalWatchOfMany(t *testing.T) {
	f, env := startFake(t)
	for i := range 20 {
		id := fmt.Sprintf("w/%d", i)
		expect(t, env, exitDone, id, "", "submit", "--id", id, "--", "sleep")
		if i > 0 {
			f.change(id, func(t *pb.TaskInfo) { t.State, t.Status = task.Pending.String(), task.Pending.Wire() })
		}
	}
	term := newTerminal(t, 100, 12)
	ctx, cancel := context.WithCancelCause(t.Context())
	env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch"}, term.tty, term.tty
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	term.await(t, "... and 13 more")
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
	term.await(t, leaveScreen)
	screen := stripANSI(term.text())
	if first := strings.Index(screen, "w/0 "); first < 0 || first > strings.Index(screen, "w/19") {
		t.Errorf("what runs is not first: %q", screen)
	}
}

// TestTerminalWatchImages: who watches sees how far an image is, though no event tells it.
func TestTerminalWatchImages(t *testing.T) {
	f, env := startFake(t)
	f.setImage("waiting", "is being fetched: 1.0 of 3.0 MB")
	term := newTerminal(t, 100, 24)
	ctx, cancel := context.WithCancelCause(t.Context())
	env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch"}, term.tty, term.tty
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	term.await(t, "image slow:1 is being fetched: 1.0 of 3.0 MB")
	f.setImage("waiting", "is being fetched: 2.0 of 3.0 MB")
	term.await(t, "image slow:1 is being fetched: 2.0 of 3.0 MB")
	f.setImage("ready", "")
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestWatchInAPipe: a line per change, no control sequences.
func TestWatchInAPipe(t *testing.T) {
	f, env := startFake(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	env.Args, env.Stdout, env.Stderr = []string{Program, "ps", "--watch", "--state", "failed", "--json"}, w, w
	done := make(chan int, 1)
	go func() { done <- Main(ctx, env) }()
	<-f.waits
	submit := env
	expect(t, submit, exitDone, "a", "", "submit", "--id", "a", "--", "true")
	expect(t, submit, exitDone, "b", "", "submit", "--id", "b", "--", "false")
	buf := make([]byte, 4096)
	n, err := r.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	cancel(InterruptedError{Signal: syscall.SIGINT})
	if code := <-done; code != exitDone {
		t.Errorf("exit %d", code)
	}
	if got := string(buf[:n]); !strings.HasPrefix(got, `{"index":4,"at":"`) || !strings.Contains(got, `"event":"task_failed","id":"b"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q", got)
	}
	_ = w.Close()
}

// TestTerminalDrain: who types drain is told why nothing happens; cron is not.
func TestTerminalDrain(t *testing.T) {
	env, _ := unattendedWorkspace(t) // task a waits in it
	expect(t, env, exitDone, "is paused", "", "pause", "cpu_short")
	const waits = "the one task that waits cannot be started now"
	if code, screen := newTerminal(t, 200, 24).run(t, env, "drain"); code != exitDone || !strings.Contains(screen, waits) {
		t.Errorf("with a class that is paused: exit %d, %q", code, screen)
	}
	if code, screen := newTerminal(t, 200, 24).run(t, env, "drain", "--quiet"); code != exitDone || strings.Contains(screen, "nothing to do") {
		t.Errorf("--quiet: exit %d, %q", code, screen)
	}
	expect(t, env, exitDone, "", "", "drain")
}
