package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// interruptibleFile reads a file, such as a terminal or a pipe in which nothing comes,
// and gives up when the command is interrupted: a blocked read would not notice.
type interruptibleFile struct {
	ctx  context.Context
	file *os.File
}

// interruptible returns a reader of the same that ends with the context, where r is
// one that may wait for long.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	if f, ok := r.(*os.File); ok {
		return &interruptibleFile{ctx: ctx, file: f}
	}
	return r
}

// Read waits until there is something to read.
func (r *interruptibleFile) Read(p []byte) (int, error) {
	const look = 50 * time.Millisecond // how soon an interrupt is noticed
	fds := []unix.PollFd{{Fd: int32(r.file.Fd()), Events: unix.POLLIN}}
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := unix.Poll(fds, int(look.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("wait for the input: %w", err)
		}
		if n > 0 {
			return r.file.Read(p)
		}
	}
}
