package app

import (
	"bufio"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

const (
	logFileMB  = 32
	logBackups = 5
	// flushEvery is how long a line may stay in memory. A task makes five lines,
	// and a system call for each would cost a short task a tenth of its time.
	flushEvery = 200 * time.Millisecond
)

// logFile returns where the orchestrator's log goes.
func logFile(c config.Config) string { return filepath.Join(c.LogDir, "orchestrator.log") }

// newLogger makes a daemon's logger: a rotated file, and
// echo (standard error in the foreground) if it is not nil. close flushes.
func newLogger(path string, echo io.Writer, level slog.Leveler) (_ *slog.Logger, closeLog func() error) {
	file := &lumberjack.Logger{Filename: path, MaxSize: logFileMB, MaxBackups: logBackups}
	b := newFlushWriter(file)
	var w io.Writer = b
	if echo != nil {
		w = io.MultiWriter(b, echo)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), func() error {
		if err := b.close(); err != nil {
			return err
		}
		return file.Close()
	}
}

// flushWriter buffers lines and writes them out a few times a second.
type flushWriter struct {
	mu   sync.Mutex
	buf  *bufio.Writer
	to   io.Writer
	stop chan struct{}
	done chan struct{}
}

func newFlushWriter(w io.Writer) *flushWriter {
	f := &flushWriter{to: w, buf: bufio.NewWriterSize(w, 64<<10), stop: make(chan struct{}), done: make(chan struct{})}
	go f.flushing()
	return f
}

// Write buffers one line. A log that cannot be written must not stop the work,
// so there is never an error.
func (f *flushWriter) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.buf.Write(p); err != nil {
		f.buf.Reset(f.to)
	}
	return len(p), nil
}

// flush writes out what is buffered. After an error a bufio.Writer refuses
// everything for good, so what could not be written is dropped, and the log goes
// on when the disk has room again.
func (f *flushWriter) flush() {
	if err := f.buf.Flush(); err != nil {
		f.buf.Reset(f.to)
	}
}

func (f *flushWriter) flushing() {
	defer close(f.done)
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f.mu.Lock()
			f.flush()
			f.mu.Unlock()
		case <-f.stop:
			return
		}
	}
}

// close stops the flushing and writes out the rest.
func (f *flushWriter) close() error {
	close(f.stop)
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flush()
	return nil
}
