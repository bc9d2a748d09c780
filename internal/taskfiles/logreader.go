package taskfiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Log reads the output of an attempt, also while it is written, and says where
// a piece was cut out of it. Offsets are those of the file: they stay valid
// whatever is cut.
type Log struct {
	f       *os.File
	path    string
	changes *os.File // an inotify instance, made by the first Wait; nil = none
}

// logPoll is how often a log is looked at where the kernel tells of no changes.
const logPoll = 500 * time.Millisecond

// OpenLog opens a log for reading. An attempt that has not begun has none.
func OpenLog(path string) (*Log, error) {
	f, _, err := openPlain(path)
	if err != nil {
		return nil, err
	}
	return &Log{f: f, path: path}, nil
}

// Close closes the log.
func (l *Log) Close() error {
	err := l.f.Close()
	if l.changes != nil {
		err = errors.Join(err, l.changes.Close())
	}
	return err
}

// Size returns the length of the file, cuts included.
func (l *Log) Size() (int64, error) {
	st, err := l.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Read reads from an offset and returns the offset to go on from. At a cut it
// gives one line that says how much is missing, and the next offset is behind
// the cut. At the end of what was written so far it returns io.EOF.
func (l *Log) Read(p []byte, off int64) (n int, next int64, err error) {
	cuts, err := readCuts(l.path)
	if err != nil {
		return 0, off, err
	}
	size, err := l.Size()
	if err != nil {
		return 0, off, err
	}
	for _, c := range cuts {
		switch {
		case off > size && c.From == c.To: // cut short under a reader
			return copy(p, c.notice()), c.To, nil
		case off >= c.From && off < c.To, off == c.From && c.From == c.To && size > off:
			return l.acrossCut(p, off, c)
		case off < c.From && int64(len(p)) > c.From-off:
			p = p[:c.From-off]
		}
	}
	n, err = l.f.ReadAt(p, off)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, off + int64(n), err
}

// acrossCut reads at a cut: its notice, and where the file has no gap what comes
// next as well, so that the offset moves on.
func (l *Log) acrossCut(p []byte, off int64, c cut) (int, int64, error) {
	n := copy(p, c.notice())
	if c.To > off {
		return n, c.To, nil
	}
	m, err := l.f.ReadAt(p[n:], off)
	if m > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n + m, off + int64(m), err
}

func (c cut) notice() string {
	return fmt.Sprintf("\n[... %.1f MiB dropped ...]\n", float64(c.Bytes)/(1<<20))
}

// TailOffset returns where the last n lines begin. It looks no further back
// than the newest cut.
func (l *Log) TailOffset(n int) (int64, error) {
	size, err := l.Size()
	if err != nil || n <= 0 {
		return size, err
	}
	cuts, err := readCuts(l.path)
	if err != nil {
		return 0, err
	}
	first := int64(0)
	for _, c := range cuts {
		first = max(first, c.To)
	}
	buf := make([]byte, 64<<10)
	for end := size; end > first; {
		from := max(first, end-int64(len(buf)))
		b := buf[:end-from]
		if _, err := l.f.ReadAt(b, from); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		for i := len(b); ; {
			i = bytes.LastIndexByte(b[:i], '\n')
			if i < 0 {
				break
			}
			// The newline at the very end closes the last line and opens none.
			if from+int64(i) == size-1 {
				continue
			}
			if n--; n == 0 {
				return from + int64(i) + 1, nil
			}
		}
		end = from
	}
	return first, nil
}

// Wait returns when there is something behind the offset, or with the error of
// ctx. It cannot know that nothing more will come; the caller does.
func (l *Log) Wait(ctx context.Context, off int64) error {
	l.watch()
	for {
		size, err := l.Size()
		if err != nil || size != off {
			return err
		}
		if err := l.sleep(ctx); err != nil {
			return err
		}
	}
}

// watch asks the kernel to tell of changes. Where it cannot, sleep polls.
func (l *Log) watch() {
	if l.changes != nil {
		return
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, l.path, unix.IN_MODIFY); err != nil {
		_ = f.Close()
		return
	}
	l.changes = f
}

// sleep returns when the file may have changed.
func (l *Log) sleep(ctx context.Context) error {
	if l.changes == nil {
		t := time.NewTimer(logPoll)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		}
	}
	// Changes that another host makes on a shared file system are not told.
	if err := l.changes.SetReadDeadline(time.Now().Add(logPoll)); err != nil {
		return err
	}
	unhook := context.AfterFunc(ctx, func() { _ = l.changes.SetReadDeadline(time.Now()) })
	defer unhook()
	var events [4096]byte
	_, err := l.changes.Read(events[:])
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return ctx.Err()
}
