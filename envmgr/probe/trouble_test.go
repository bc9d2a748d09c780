package probe

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// What this machine lacks is not held against the service.
func TestNoConnectionForWantOfSomethingHere(t *testing.T) {
	t.Parallel()
	for errno, want := range map[syscall.Errno]error{
		syscall.EMFILE:        ErrNotAsked,
		syscall.ENFILE:        ErrNotAsked,
		syscall.EADDRNOTAVAIL: ErrNotAsked, // no port left to connect from
		syscall.EPERM:         ErrNotAsked,
		syscall.ECONNREFUSED:  ErrRefused,
		syscall.ECONNRESET:    ErrClosed,
		syscall.EHOSTUNREACH:  ErrUnreachable,
		syscall.ETIMEDOUT:     ErrUnreachable, // the kernel's own patience, not ours
	} {
		err := noConnection(context.Background(), "127.0.0.1:1", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)})
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
