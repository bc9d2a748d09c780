package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"
)

// The log is in the runtime directory, which may be in memory: it stays smaller
// than the daemon's.
const logBackups = 2

// logLimit is the size in bytes at which the log is put aside and begun anew. A
// variable for tests.
var logLimit int64 = 8 << 20

// supervisorLog is the log of a supervisor, which runs for months. It is
// rotated, and what the runtime itself writes to standard error, such as the
// reason why it crashed, goes to the present file as well.
//
// It is used by one writer at a time, as the handlers of slog do.
type supervisorLog struct {
	file *lumberjack.Logger
	size int64
	// follow is called with the path when there is a new file.
	follow func(path string) error
}

func openSupervisorLog(path string) *supervisorLog {
	// Rotation is ours to order, since standard error has to follow; the limit of
	// the library is never reached.
	l := &supervisorLog{file: &lumberjack.Logger{Filename: path, MaxSize: 1 << 20, MaxBackups: logBackups}, follow: redirectOutput}
	if st, err := os.Stat(path); err == nil {
		l.size = st.Size()
	}
	return l
}

// Write writes a line, and begins a new file when the present one is full.
func (l *supervisorLog) Write(line []byte) (int, error) {
	n, err := l.file.Write(line)
	if l.size += int64(n); l.size >= logLimit && err == nil {
		// Closed, it is opened again for appending: standard error writes there too.
		err = errors.Join(l.file.Rotate(), l.file.Close(), l.follow(l.file.Filename))
		l.size = 0
	}
	return n, err
}

// redirectOutput makes a file our standard output and standard error.
func redirectOutput(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("redirect standard error: %w", err)
	}
	defer f.Close() //nolint:errcheck // its copies stay
	for _, std := range []int{1, 2} {
		if err := unix.Dup3(int(f.Fd()), std, 0); err != nil {
			return fmt.Errorf("redirect standard error: %w", err)
		}
	}
	return nil
}
