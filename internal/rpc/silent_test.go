package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// stoppedChild returns the pid of a process that is stopped.
func stoppedChild(t *testing.T) int32 {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus // returns when it has stopped
	if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the child has not stopped: %v, %v", status, err)
	}
	return int32(cmd.Process.Pid)
}

// TestSilentServer: whoever listens and says nothing is told from one that is not
// there, and soon.
func TestSilentServer(t *testing.T) {
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	lis, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	began := time.Now()
	_, err = Dial(t.Context(), Target{Socket: socket})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if !errors.Is(err, ErrSilent) || errors.Is(err, ErrSuspended) || task.CodeOf(err) != task.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, fmt.Sprintf("(pid %d) does not answer: it is busy or hangs", os.Getpid())) {
		t.Errorf("got %s", msg)
	}
	// Who called can still give up earlier, and then that is the reason.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, Target{Socket: socket}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestStoppedDuringACall: a call ends when the process that should answer it is
// found to be stopped, and says how to let it go on.
func TestStoppedDuringACall(t *testing.T) {
	d := newDialer(Target{})
	d.patience, d.pid = time.Millisecond, stoppedChild(t)
	ctx, leave := d.attend(t.Context())
	<-ctx.Done()
	leave()
	cause := context.Cause(ctx)
	if !errors.Is(cause, ErrSilent) || !errors.Is(cause, ErrSuspended) {
		t.Fatalf("got %v", cause)
	}
	want := fmt.Sprintf("the daemon (pid %d) does not answer: it is stopped (state T); kill -CONT %d lets it go on", d.pid, d.pid)
	if msg := cause.Error(); msg != want {
		t.Errorf("got %s", msg)
	}
	// One that is alive is left its time, and closing ends the attendance.
	d.pid = int32(os.Getpid())
	ctx, leave = d.attend(t.Context())
	defer leave()
	if err := d.close(); err != nil || ctx.Err() == nil || errors.Is(context.Cause(ctx), ErrSilent) {
		t.Errorf("close: %v; the call ended with %v", err, context.Cause(ctx))
	}
}
