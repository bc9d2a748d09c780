package dockertest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Listen listens in the engine's network: 127.0.0.1 is what the engine, and a
// container in the network of its host, has under that name.
func (e *Engine) Listen(ctx context.Context, network, address string) (listener net.Listener, err error) {
	inside := e.inside(func() error {
		var conf net.ListenConfig
		listener, err = conf.Listen(ctx, network, address)
		return err
	})
	return listener, inside
}

// Dial connects in the engine's network, to a container or to a port that one
// publishes. The address is of numbers: there is nobody to ask for a name.
func (e *Engine) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	inside := e.inside(func() error {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, inside
}

// Command is exec.CommandContext for a program that runs in the engine's network:
// 127.0.0.1 has what containers publish.
func (e *Engine) Command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	bed, err := e.pid("bed")
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(bed), "-n", "--", program}, args...)...), nil
}

// inside calls f in the engine's network: sockets stay where they were made. The
// thread is not used for anything else, so it need not find back.
func (e *Engine) inside(f func() error) error {
	bed, err := e.pid("bed")
	if err != nil {
		return err
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", bed))
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the engine's network: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
