package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// script makes a program that prints a text, or fails.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "orchestrator")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700)) //nolint:gosec // a program
	return path
}

func TestVersions(t *testing.T) {
	p := patient(t)
	want(t, "versions", p, OK, build+": this program, the daemon's program")
	want(t, "versions", p.healthy(Health{PID: 7, Version: build}), OK, "the daemon's program, the daemon")
	want(t, "versions", p.healthy(Health{PID: 7, Version: "v0.9"}), Warning, "the daemon (pid 7) is of version v0.9, this program is "+build, "dspy-agent stop, then dspy-agent start")

	for text, want1 := range map[string]struct {
		status Status
		words  []string
	}{
		"echo orchestrator v0.9 abc": {Warning, []string{"is of another build (orchestrator v0.9 abc)", "install both"}},
		"exit 3":                     {Problem, []string{"does not run: exit status 3", "install it anew"}},
	} {
		path := script(t, text)
		p.Orchestrator = func() (string, error) { return path, nil }
		want(t, "versions", p, want1.status, want1.words...)
	}
	p.Orchestrator = func() (string, error) { return "/none/orchestrator", nil }
	want(t, "versions", p, Problem, "it is not there")
	p.Orchestrator = func() (string, error) { return "", errors.New("it is neither here nor there") }
	want(t, "versions", p, Problem, "neither here nor there", "same folder")
}

// TestProgramThatHangs: the check ends when its time is up, and so does the program.
func TestProgramThatHangs(t *testing.T) {
	path := script(t, "exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if text, err := buildOf(ctx, path); err == nil || ctx.Err() == nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestSocket(t *testing.T) {
	p := patient(t)
	cfg := p.Load().Config
	path := runtimedir.SocketPath(runtimedir.Path(cfg.RuntimeDir, p.UID), cfg.QueueDir)
	want(t, "socket", p, OK, path+" is made when the daemon starts")
	want(t, "socket", p.ownedBy(ourselves(t)), Warning, "the daemon runs, and its socket "+path+" is gone", "makes it again")

	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, nil, 0o600))
	want(t, "socket", p, Problem, "is in the way of the socket", "remove it")
	must(t, os.Remove(path))

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, os.Chmod(path, 0o666)) //nolint:gosec // that is the point
	want(t, "socket", p, Warning, "open to others (mode 0666)", "chmod 600 "+path)
	must(t, os.Chmod(path, 0o600))
	want(t, "socket", p, OK, fmt.Sprintf("pid %d listens at %s", os.Getpid(), path))
	must(t, l.Close())
	want(t, "socket", p, Note, "a daemon that is gone left the socket", "the next one replaces it")
}

func TestSocketOfAnotherUser(t *testing.T) {
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o777)) //nolint:gosec // for another user
	path := filepath.Join(dir, "s")
	l := listen(t, "unix", path, asNobody())
	uid := nobody
	if os.Geteuid() != 0 { // the child is of our own uid, and we pretend to be another
		uid = os.Geteuid()
	}
	_, err := listenerOf(t.Context(), path, uid+1)
	if !errors.Is(err, errStranger) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("uid %d", uid)) {
		t.Errorf("%v", err)
	}
	if got, err := listenerOf(t.Context(), path, uid); err != nil || got.pid != l.pid {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSocketPathThatIsTooLong(t *testing.T) {
	long := filepath.Join(shortDir(t), strings.Repeat("x", 100))
	must(t, os.Mkdir(long, 0o700))
	p := patient(t, "XDG_RUNTIME_DIR="+long)
	want(t, "socket", p, Problem, "bytes long, and the kernel takes at most 107", "shorter name")
	if _, err := net.Listen("unix", filepath.Join(long, "dspy-agent", "0123456789abcdef.sock")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("the kernel takes it: %v", err)
	}
}

func TestOwner(t *testing.T) {
	p := patient(t)
	want(t, "owner", p, OK, "nobody has the queue open")
	o := ourselves(t)
	want(t, "owner", p.ownedBy(o), OK, fmt.Sprintf("pid %d has the queue open since", os.Getpid()))

	dead := exec.CommandContext(t.Context(), "true")
	must(t, dead.Start())
	o = ownerOf(t, dead.Process.Pid)
	must(t, dead.Wait())
	want(t, "owner", p.ownedBy(o), Note, fmt.Sprintf("pid %d had the queue open and is dead", o.PID), "takes over")
	o.BootID = "an earlier one"
	want(t, "owner", p.ownedBy(o), Note, "when this machine was restarted")
	o.Host = "login2"
	want(t, "owner", p.ownedBy(o), Warning, "was opened on host login2", "on login2: dspy-agent stop")

	p.Owner = func(string) (*Owner, error) { return nil, errors.New("owner.json is damaged") }
	want(t, "owner", p, Warning, "owner.json is damaged", "the next start replaces it")
	p.Owner = func(string) (*Owner, error) {
		return nil, fmt.Errorf("the queue is closed to you: %w", fs.ErrPermission)
	}
	want(t, "owner", p, Problem, "closed to you: permission denied", "act as its owner")
	p.Owner = func(string) (*Owner, error) { return nil, errors.New("owner.json is damaged") }
	p.Holder = func(string) int { return 4711 }
	want(t, "owner", p, Problem, "pid 4711 has the queue open", "kill 4711, then dspy-agent start")
}

func TestDaemon(t *testing.T) {
	p := patient(t)
	want(t, "daemon", p, Note, "none runs for workspace", "dspy-agent start")
	want(t, "daemon", p.healthy(Health{PID: 7, Healthy: true}), OK, "pid 7 accepts tasks")
	want(t, "daemon", p.healthy(Health{PID: 7, Healthy: true, Stale: "the file was changed"}), Warning, "the file was changed", "dspy-agent stop")
	want(t, "daemon", p.healthy(Health{PID: 7, LogFile: "/l"}), Problem, "pid 7 does not accept tasks", "/l")
	want(t, "daemon", p.ownedBy(ourselves(t)), Problem, "has the queue open and does not answer", "kill -9", "dspy-agent start")
	p.Health = func(context.Context, config.Config) (Health, error) { return Health{}, errors.New("another user's") }
	want(t, "daemon", p, Problem, "another user's")
}

// TestStoppedDaemon is told at once: nobody waits for its answer.
func TestStoppedDaemon(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0", nil)
	stop(t, l.pid)
	p := patient(t).ownedBy(ownerOf(t, l.pid))
	p.Health = func(context.Context, config.Config) (Health, error) {
		t.Error("it was asked")
		return Health{}, errNone
	}
	want(t, "daemon", p, Problem, "is stopped", fmt.Sprintf("kill -CONT %d", l.pid))
}

// TestDaemonOfAnotherUser: that it does not answer is no reason to kill it, nor is
// anything wrong with where it listens.
func TestDaemonOfAnotherUser(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0", asNobody())
	o := ownerOf(t, l.pid)
	o.HTTP = l.addr
	p := asSomebodyElse(patient(t)).ownedBy(o)
	p.Health = func(context.Context, config.Config) (Health, error) {
		return Health{}, task.Errorf(task.CodeConflict, "it cannot be trusted")
	}
	uid := nobody
	if os.Geteuid() != 0 {
		uid = os.Geteuid()
	}
	want(t, "daemon", p, Problem, fmt.Sprintf("pid %d is the daemon of uid %d", l.pid, uid), "act as its owner (sudo -u)")
	if got := made("ports", p); len(got) != 0 {
		t.Errorf("its ports: %+v", got)
	}
}

// TestSilentDaemon: the time-out of the check ends the wait.
func TestSilentDaemon(t *testing.T) {
	p := patient(t).ownedBy(ourselves(t))
	p.Health = func(ctx context.Context, _ config.Config) (Health, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the wait for the daemon has no end")
		}
		return Health{}, context.DeadlineExceeded
	}
	want(t, "daemon", p, Problem, "does not answer: no answer within 3s", "kill -9")
	p.Owner = func(string) (*Owner, error) { return nil, nil } //nolint:nilnil // nobody is no error
	want(t, "daemon", p, Problem, "cannot be asked: no answer within 3s")
}

func TestParts(t *testing.T) {
	p := patient(t)
	if found := made("parts", p); found != nil {
		t.Errorf("no daemon has parts: %s", textOf(found))
	}
	p = p.healthy(Health{LogFile: "/l", Parts: map[string]string{"queue": "2 records are damaged", "process": "down: no supervisor", "slurm": notYet, "grpc": "down: x", "events": "ok"}})
	found := made("parts", p)
	wantIn(t, found, OK, "events: ok")
	wantIn(t, found, Problem, "process is down: no supervisor", "dspy-agent stop, then dspy-agent start", "/l")
	wantIn(t, found, Warning, "queue: 2 records are damaged")
	if len(found) != 3 {
		t.Errorf("others have checks of their own: %s", textOf(found))
	}
}

func TestSupervisor(t *testing.T) {
	p := patient(t)
	if found := made("supervisor", p); found != nil {
		t.Errorf("this program has none: %s", textOf(found))
	}
	p.SupervisorSocket = "sup"
	want(t, "supervisor", p, Note, "none runs")
	dir := filepath.Join(p.Load().Config.RuntimeDir, "dspy-agent")
	must(t, os.Mkdir(dir, 0o700))
	l := listen(t, "unix", filepath.Join(dir, "sup"), nil)
	want(t, "supervisor", p, OK, fmt.Sprintf("pid %d has 0 processes running", l.pid))
	want(t, "versions", p, OK, "the supervisor") // the child answers with our version
	p.Version = "v2"
	want(t, "versions", p, Note, fmt.Sprintf("the process supervisor (pid %d) is of another build (tests %s), which is fine", l.pid, build))
	stop(t, l.pid)
	want(t, "supervisor", p, Problem, "is stopped", fmt.Sprintf("kill -CONT %d", l.pid))
}

func TestChildren(t *testing.T) {
	before := children(os.Getpid())
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	if n := children(os.Getpid()); n != before+1 {
		t.Errorf("%d children, want %d", n, before+1)
	}
	must(t, in.Close())
	must(t, cmd.Wait())
}
