package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// unattendedWorkspace is a workspace with a queue and a task, and without a daemon.
func unattendedWorkspace(t *testing.T) (Env, config.Config) {
	t.Helper()
	env := testEnv(t)
	expect(t, env, exitDone, "a\n", "note: it is on disk, and nothing runs it yet: no daemon is running for workspace "+env.Cwd, "submit", "--workspace", ".", "--id", "a", "--", "true")
	cfg, err := config.Load(config.Given{Cwd: env.Cwd, Lookup: env.getenv})
	if err != nil {
		t.Fatal(err)
	}
	return env, cfg
}

// occupy opens the queue as another command would, and returns how to close it.
func occupy(t *testing.T, cfg config.Config, write bool) (leave func()) {
	t.Helper()
	u, err := app.OpenUnattended(t.Context(), app.UnattendedOptions{Config: cfg, Write: write})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWaitsForItsTurn: a command waits for another that has the queue for its own call.
func TestWaitsForItsTurn(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	for _, args := range []string{"submit --id b -- true", "ps", "cancel a", "stop"} {
		leave := occupy(t, cfg, true)
		ended := make(chan int, 1)
		go func() {
			code, _, _ := dspyAgent(t, env, strings.Fields(args)...)
			ended <- code
		}()
		leave()
		if code := <-ended; code != exitDone {
			t.Errorf("%s ended with %d", args, code)
		}
	}
}

// TestWhoKeepsTheQueueIsNamed: one who does not let go of it is named, and not taken for
// a daemon.
func TestWhoKeepsTheQueueIsNamed(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	pid := fmt.Sprintf("pid %d", os.Getpid())
	leave := occupy(t, cfg, true)
	expect(t, env, exitNoDaemon, "", pid, "ps")
	expect(t, env, exitFailed, "", "which is a command and no daemon", "stop")
	leave()
	leave = occupy(t, cfg, false)
	expect(t, env, exitDone, "a\t", "", "ps")
	expect(t, env, exitNoDaemon, "", pid, "submit", "--", "true")
	expect(t, env, exitDone, "no daemon runs", "", "stop")
	leave()
}

// TestSlowReaderKeepsNobodyOut: what a command has read of the queue may wait for its
// reader, and the queue does not.
func TestSlowReaderKeepsNobodyOut(t *testing.T) {
	env, _ := unattendedWorkspace(t)
	slow := env
	r, w := io.Pipe()
	slow.Args, slow.Stdout, slow.Stderr = []string{Program, "ps"}, w, io.Discard
	ended := make(chan int, 1)
	go func() {
		ended <- Main(t.Context(), slow)
		_ = w.Close() // a pipe's never fails
	}()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	expect(t, env, exitDone, "b\n", "note: ", "submit", "--id", "b", "--", "true")
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(rest, []byte("\na\t")) {
		t.Errorf("read %q, %v", rest, err)
	}
	if code := <-ended; code != exitDone {
		t.Errorf("ps ended with %d", code)
	}
}

// TestOwnerOnAnotherHost: reading says whose queue it is; what would change it says who
// has it, where, and what to do.
func TestOwnerOnAnotherHost(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	const text = `{"host": "login2", "boot_id": "another", "pid": 77, "start_ticks": 5, "fence": 9, "started_at": "2026-03-04T05:06:07Z", "socket": "/run/x"}`
	write(t, filepath.Join(cfg.QueueDir, app.OwnerFile), text)
	expect(t, env, exitDone, "a\t", "note: the queue belongs to pid 77 on host login2, since 2026-03-04T05:06:07", "ps")

	o := ownerElsewhere(cfg)
	if o == nil || o.Host != "login2" {
		t.Fatalf("the owner is %+v", o)
	}
	cause := errors.New("locked")
	err := unavailable(cfg, &app.BusyError{Holder: app.Holder{Host: "login2", PID: 77}, Err: cause})
	far, ok := errors.AsType[*elsewhereError](err)
	msg := err.Error()
	if !ok || far.owner.PID != 77 || exitCode(t.Context(), err) != exitNoDaemon || !errors.Is(err, cause) ||
		!strings.Contains(msg, "pid 77 on host login2") || !strings.Contains(msg, "run the command there") {
		t.Errorf("the error is %v", err)
	}
	// Who has the lock here is another one.
	err = unavailable(cfg, &app.BusyError{Holder: app.Holder{PID: 5}, Err: cause})
	if _, ok := errors.AsType[*elsewhereError](err); ok {
		t.Errorf("a process of this host is told as one of another: %v", err)
	}
}

// TestOwnerElsewhereIsNamed: whatever cannot be done here while the queue belongs to another
// host says which, and how to go on if that is gone; nobody is sent to stop or start
// something here.
func TestOwnerElsewhereIsNamed(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	copied := filepath.Join(t.TempDir(), "copy.db")
	expect(t, env, exitDone, "backed up", "", "queue", "backup", copied)
	tasks := filepath.Join(env.Cwd, "tasks.jsonl")
	write(t, tasks, `{"argv":["true"]}`)
	const text = `{"role": "daemon", "host": "login2", "machine": "other", "boot_id": "another", "pid": 77, "start_ticks": 5, "fence": 9, "started_at": "2026-03-04T05:06:07Z"}`
	write(t, filepath.Join(cfg.QueueDir, app.OwnerFile), text)
	const takeOver = "host is gone for good: dspy-agent start --workspace "
	for _, args := range []string{
		"stop", "submit --wait -- true", "submit --follow -- true", "submit --from-file " + tasks, "retry a", "ps --watch", "wait a", "status",
		"queue compact", "queue restore --force " + copied,
	} {
		code, _, errs := dspyAgent(t, env, strings.Fields(args)...)
		if code != exitNoDaemon || !strings.Contains(errs, "login2") || !strings.Contains(errs, takeOver) ||
			strings.Contains(errs, "start one with") || strings.Contains(errs, "stop that first") {
			t.Errorf("%s: exit %d, %q", args, code, errs)
		}
	}
	if waiting, err := filepath.Glob(filepath.Join(cfg.QueueDir, "requests", "*")); err != nil || len(waiting) != 0 {
		t.Errorf("a submission that waits has left %v (%v)", waiting, err)
	}
	expect(t, env, exitDone, "waiting for somebody to run it: the queue belongs to pid 77 (daemon) on host login2; look there", "is how it was written last", "why", "a")

	// And since when it is silent.
	beat := filepath.Join(cfg.QueueDir, "owner.beat")
	write(t, beat, "7")
	heard := time.Now().Add(-3 * time.Hour)
	if err := os.Chtimes(beat, heard, heard); err != nil {
		t.Fatal(err)
	}
	expect(t, env, exitNoDaemon, "", "on host login2, since 2026-03-04T05:06:07.000Z, of which nothing was heard since "+clock(heard.UnixNano()), "stop")
	for _, args := range []string{"why a", "show a"} {
		expect(t, env, exitDone, "on host login2, of which nothing was heard since", "of which nothing was heard since "+clock(heard.UnixNano())+" (3 hours ago); this is how", strings.Fields(args)...)
	}
}

// TestOwnerElsewhereIsNotFollowedUnasked: a command of another machine may still have the
// queue, whatever the disk. It is named within seconds, with what to do if it is gone, and
// nothing is taken over.
func TestOwnerElsewhereIsNotFollowedUnasked(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	const text = `{"role": "command", "host": "login2", "machine": "other", "boot_id": "another", "pid": 77, "start_ticks": 5, "fence": 9, "started_at": "2026-03-04T05:06:07Z"}`
	path := filepath.Join(cfg.QueueDir, app.OwnerFile)
	write(t, path, text)
	began := time.Now()
	expect(t, env, exitNoDaemon, "", "If that host is gone for good: dspy-agent start --workspace "+cfg.Workspace+" --take-over", "pause", "cpu_long")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != text {
		t.Errorf("the owner is %s now (%v)", now, err)
	}
}

// TestDrainBesideOneElsewhere: who owns the queue on another host does the work only if it
// shows that it lives. Else a drain says so, since from cron nobody would ever hear of it.
func TestDrainBesideOneElsewhere(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	const text = `{"role": "daemon", "host": "login2", "machine": "other", "boot_id": "another", "pid": 77, "start_ticks": 5, "fence": 9, "started_at": "2026-03-04T05:06:07Z"}`
	write(t, filepath.Join(cfg.QueueDir, app.OwnerFile), text)
	drain := func(within time.Duration, beats bool) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		env.Args, env.Stdout, env.Stderr = []string{Program, "drain", "--for", "1s"}, &out, &errs
		s := newSession(env)
		s.signOfLife = within
		left := make(chan struct{})
		var beating sync.WaitGroup
		if beats {
			beating.Go(func() { beatUntil(t, cfg, left) })
		}
		code = s.run(t.Context())
		close(left)
		beating.Wait()
		return code, out.String(), errs.String()
	}
	for range 2 {
		if code, out, errs := drain(time.Second, false); code != exitNoDaemon || out != "" ||
			!strings.Contains(errs, "pid 77 (daemon) on host login2") || !strings.Contains(errs, "dspy-agent drain --workspace "+cfg.Workspace+" --take-over") {
			t.Errorf("of one who is silent: exit %d, %q, %q", code, out, errs)
		}
	}
	if code, out, errs := drain(time.Minute, true); code != exitDone || errs != "" || !strings.Contains(out, "nothing done") {
		t.Errorf("of one who lives: exit %d, %q, %q", code, out, errs)
	}
}

// beatUntil shows that the owner of a queue is alive, as one on another host does.
func beatUntil(t *testing.T, cfg config.Config, left <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := os.WriteFile(filepath.Join(cfg.QueueDir, "owner.beat"), fmt.Appendf(nil, "%020d\n", n), 0o600); err != nil {
			t.Error(err)
			return
		}
		select {
		case <-tick.C:
		case <-left:
			return
		}
	}
}

// TestQueueOfSomebodyElse: nobody is let at it, as at the socket; root least of all, who
// could.
func TestQueueOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a queue to another user: sudo go test -run TestQueueOfSomebodyElse ./internal/cli")
	}
	env, cfg := unattendedWorkspace(t)
	if err := os.Chown(filepath.Join(cfg.QueueDir, "CURRENT"), 1234, -1); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"ps", "submit -- true", "submit --workspace . -- true", "cancel a"} {
		expect(t, env, exitRefused, "", "belongs to uid 1234, and you are uid 0; become that user first", append([]string{"--workspace", env.Cwd}, strings.Fields(args)...)...)
	}
}

// TestQueueThatIsClosed: of another user's folder everybody says the same, and not what a
// system call has said about a file.
func TestQueueThatIsClosed(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	env, cfg := unattendedWorkspace(t)
	if err := os.Chmod(cfg.QueueDir, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(cfg.QueueDir, 0o700) }) //nolint:gosec // a folder, which is to be removed
	for _, args := range []string{"ps", "drain", "stop", "status", "queue verify", "queue compact", "queue repair", "queue backup x.db", "queue restore x.db", "submit -- true"} {
		expect(t, env, exitRefused, "", "choose a folder of your own with --workspace", append([]string{"--workspace", env.Cwd}, strings.Fields(args)...)...)
	}
}

// asNobody runs the test once more, as a user who is not let everywhere.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "nobody") // that of the test is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	program := filepath.Join(dir, "test")
	data, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(program, data, 0o755), os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "tmp"), 0o700), os.Chown(filepath.Join(dir, "tmp"), nobody, nobody)) //nolint:gosec // it is run by another user
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run", "^"+t.Name()+"$")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + filepath.Join(dir, "tmp"), "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestHold: an output is kept back up to a size, and then passed on, in order.
func TestHold(t *testing.T) {
	var to bytes.Buffer
	s := &screen{w: &to}
	release := s.hold()
	s.printf("one ")
	if to.Len() != 0 {
		t.Errorf("passed on too early: %q", to.String())
	}
	long := strings.Repeat("x", holdMost)
	s.printf("%s", long)
	s.printf(" two")
	if got := to.String(); got != "one "+long+" two" {
		t.Errorf("%d bytes were passed on of what is too long to keep", len(got))
	}
	release()
	s.printf(" three")
	if got := to.String(); got != "one "+long+" two three" {
		t.Errorf("%d bytes after the release", len(got))
	}

	s = &screen{w: failing{io.ErrClosedPipe}}
	release = s.hold()
	s.printf("kept")
	release()
	if !errors.Is(s.err, io.ErrClosedPipe) {
		t.Errorf("the error of the late write is %v", s.err)
	}
}
