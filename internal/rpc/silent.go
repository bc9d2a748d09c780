package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrSilent is the cause of the error of a call to a server that is there
// and does not answer. The kernel takes connections in the name of a process that
// is stopped (SIGSTOP) or hangs, so that only the silence tells.
var ErrSilent = errors.New("the daemon does not answer")

// ErrSuspended is the ErrSilent of a server that is stopped: no patience
// helps, and a signal to end would not reach it either.
var ErrSuspended = fmt.Errorf("%w: it is stopped", ErrSilent)

// answerPatience is how long a server may take to greet, and how often is
// looked, while a call is under way, whether it has been stopped. A call itself
// may take as long as it needs: a disk can be slow.
const answerPatience = 4 * time.Second

// greet returns once the server has spoken. gRPC by itself would wait for 20
// seconds, and then say that a deadline was exceeded.
func (d *socketDialer) greet(ctx context.Context, cc *grpc.ClientConn) error {
	late, cancel := context.WithTimeoutCause(ctx, d.patience, ErrSilent)
	defer cancel()
	cc.Connect()
	for {
		switch state := cc.GetState(); state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			if last := d.lastError(); last != nil {
				return last
			}
			if pid := d.server(); isStopped(processState(pid)) {
				return d.silence(pid)
			}
			if d.tcp != nil {
				return task.Errorf(task.CodeUnavailable,
					"the daemon at %s closed the connection; it may be stopping: try again. Or that port wants TLS, which is not spoken on loopback: call it by a name or address that was given to access tls", d.tcp.addr)
			}
			return task.Errorf(task.CodeUnavailable, "the daemon closed the connection; it may be stopping: try again")
		default:
			if cc.WaitForStateChange(late, state) {
				continue
			}
		}
		if errors.Is(context.Cause(late), ErrSilent) {
			return d.silence(d.server())
		}
		return fmt.Errorf("connect to the daemon: %w", ctx.Err())
	}
}

// attend returns a context for one call. It ends with the caller's, when the
// Client is closed, and when the server is found to be stopped: its cause is
// then an ErrSilent. leave ends it when the call has.
func (d *socketDialer) attend(ctx context.Context) (_ context.Context, leave func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	d.attending.Go(func() {
		look := time.NewTicker(d.patience)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.closed:
				cancel(nil)
				return
			case <-look.C:
			}
			if pid := d.server(); isStopped(processState(pid)) {
				cancel(d.silence(pid))
				return
			}
		}
	})
	return ctx, func() { cancel(nil) }
}

// silence says why a process does not answer, as far as the kernel knows, and
// what to do about it.
func (d *socketDialer) silence(pid int32) error {
	who := "the daemon"
	if pid > 0 {
		who = fmt.Sprintf("the daemon (pid %d)", pid)
	}
	state, cause := processState(pid), ErrSilent
	why := fmt.Sprintf("it is busy or hangs; its log may say more. If it stays so, kill -9 %d ends it, and %s", pid, d.target.Wording.Killed)
	switch {
	case state == 't':
		cause = ErrSuspended
		why = "a debugger holds it (state t); it answers when that lets it go on"
	case isStopped(state):
		cause = ErrSuspended
		why = fmt.Sprintf("it is stopped (state T); kill -CONT %d lets it go on", pid)
	case state == 'D':
		why = "it waits for a disk or a file server (state D); it answers when those do"
	case pid <= 0:
		why = "it is busy, stopped or hangs"
	}
	return &task.Error{Code: task.CodeUnavailable, Message: who + " does not answer: " + why, Err: cause}
}

func isStopped(state byte) bool { return state == 'T' || state == 't' }

// processState returns the letter of proc(5) for the state of a process; 0 = it
// cannot be told.
func processState(pid int32) byte {
	if pid <= 0 {
		return 0
	}
	st, err := host.ReadStat(int(pid))
	if err != nil {
		return 0
	}
	return st.State
}
