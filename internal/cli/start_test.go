package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestStartSaysWhereItLooked(t *testing.T) {
	env := testEnv(t)
	env.Executable = filepath.Join(env.Cwd, Program)
	expect(t, env, exitNotFound, "", filepath.Join(env.Cwd, daemonProgram), "start")
	expect(t, env, exitRefused, "", "is not a folder", "start", "--workspace", "/nowhere")
}

// daemonScript installs a daemon that is a shell script beside the program.
func daemonScript(t *testing.T, env *Env, script string) {
	t.Helper()
	env.Executable = filepath.Join(env.Cwd, "bin", Program)
	if err := os.MkdirAll(filepath.Dir(env.Executable), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(env.Cwd, "bin", daemonProgram)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestStartTellsHowItWent(t *testing.T) {
	for _, tc := range []struct {
		script, stdout, stderr string
		code                   int
		flags                  []string
	}{
		{script: `echo '{"ok":true,"pid":4711}' >&3`, stdout: "started: pid 4711", code: exitDone},
		{script: `echo '{"ok":false,"code":"exhausted","error":"the disk is full"}' >&3`, stderr: "could not start: the disk is full", code: exitRefused},
		{script: `echo "panic: oh no" >&2; exit 2`, stderr: "it printed:\npanic: oh no", code: exitFailed},
		{script: `exit 2`, stderr: "printed nothing", code: exitFailed},
		{script: `exec cat "$FIFO"`, stderr: "does not accept calls after 50ms", code: exitNoDaemon, flags: []string{"--start-timeout", "0.05"}},
	} {
		env := testEnv(t)
		fifo := filepath.Join(env.Cwd, "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		env.Environ = append(env.Environ, "FIFO="+fifo)
		daemonScript(t, &env, tc.script)
		expect(t, env, tc.code, tc.stdout, tc.stderr, append([]string{"start"}, tc.flags...)...)
		if f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			_ = f.Close() // lets the one that hangs end
		} else if !errors.Is(err, syscall.ENXIO) {
			t.Error(err)
		}
	}
}

func TestStartWhereOneRuns(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, fmt.Sprintf("already running: pid %d", os.Getpid()), "", "start")
}

func TestStartInTheForeground(t *testing.T) {
	env := testEnv(t)
	daemonScript(t, &env, "")
	var ran []string
	env.Exec = func(_ string, argv, _ []string) error { ran = argv; return nil }
	expect(t, env, exitDone, "", "", "start", "--foreground")
	if want := []string{filepath.Join(env.Cwd, "bin", daemonProgram), "--workspace", env.Cwd, "--foreground"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q", ran)
	}
}

// TestStartBesideADrainThatBegins: a drain takes the queue in the moment before the
// daemon would. It is asked to leave, and the daemon is started once more.
func TestStartBesideADrainThatBegins(t *testing.T) {
	f, env := startFake(t)
	drain := exec.Command("/bin/sleep", "600")
	if err := drain.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = drain.Wait() // it is killed
		close(ended)
	}()
	defer func() {
		_ = drain.Process.Kill() // it may have ended
		<-ended
	}()
	f.drain = drain.Process.Pid
	// It answers from when on the daemon has found the queue locked.
	if err := os.Rename(f.path, f.path+".away"); err != nil {
		t.Fatal(err)
	}
	env.Environ = append(env.Environ, "SOCKET="+f.path)
	daemonScript(t, &env, `if mv "$SOCKET.away" "$SOCKET" 2>/dev/null
then echo '{"ok":false,"code":"unavailable","error":"the queue is in use"}' >&3
else echo '{"ok":true,"pid":4711}' >&3
fi`)
	expect(t, env, exitDone, fmt.Sprintf("took over from a drain, pid %d\nstarted: pid 4711", f.drain), "", "start")
	<-ended
}
