package containerinit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

const (
	// pieceSize is how much is read at a time: what a pipe holds.
	pieceSize = 64 << 10
	// fullPause is between two attempts to write what could not be.
	fullPause = time.Second
	// fullPatience is how long after the end of the program room is waited for. What is in
	// the pipes has to be read and counted then, before drainPatience is over.
	fullPatience = drainPatience / 2
	// faultPatience is how long a log may not be writable for another reason than a lack of
	// room, which may be a file server's restart.
	faultPatience = 10 * time.Second
	// roomPatience is how long a daemon may take to cut the log, or to be there again.
	roomPatience = 10 * time.Second
	roomPause    = 100 * time.Millisecond
)

// logFile is what a log is written to; an *os.File that is appended to is one.
type logFile interface {
	io.Writer
	io.Seeker
	Stat() (fs.FileInfo, error)
}

// marks tell its two streams apart; a *taskfiles.Marks does.
type marks interface {
	Set(offset int64, s taskfiles.Stream)
	Write() error
	Forget() error
}

// output appends what the program prints to its log. The daemon cuts the middle out of one
// that grows too large; while there is none, twice as much is kept, and no more.
type output struct {
	pipes  [2]int
	file   logFile
	marks  marks
	size   int64
	limit  int64 // bytes on disk
	room   int64 // until it is to be looked at again
	looked time.Time
	alone  bool // nobody has made room
	broken bool // it cannot be written, and was waited for

	hand    atomic.Int64              // bytes that were read and are not written
	dropped atomic.Int64              // bytes
	ended   atomic.Pointer[time.Time] // when the program did
	closed  atomic.Bool               // nothing is written any more, and all that was not is counted
}

func openOutput(dir string, limit int64) (*output, error) {
	f, err := os.OpenFile(filepath.Join(dir, OutputFile), os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return &output{file: f, limit: limit}, nil
}

// begin makes it ready to be written to. Until the attempt is claimed another one may write.
func (o *output) begin(dir string) error {
	st, err := o.file.Stat()
	if err != nil {
		return err
	}
	o.size = st.Size()
	m, err := taskfiles.OpenMarks(filepath.Join(dir, OutputFile), o.size)
	if err != nil {
		return err
	}
	o.marks = m
	return nil
}

// copy copies until both pipes are closed by all who write to them.
func (o *output) copy() {
	fds := []unix.PollFd{{Fd: int32(o.pipes[0]), Events: unix.POLLIN}, {Fd: int32(o.pipes[1]), Events: unix.POLLIN}}
	buf := make([]byte, pieceSize)
	for open := len(fds); open > 0; {
		if _, err := unix.Poll(fds, -1); err != nil {
			continue // interrupted: nothing else can be wrong with what was just made
		}
		for i := range fds {
			if fds[i].Fd < 0 || fds[i].Revents == 0 {
				continue
			}
			n, err := unix.Read(int(fds[i].Fd), buf)
			switch {
			case n > 0:
				o.add(buf[:n], taskfiles.Stdout+taskfiles.Stream(i))
			case !errors.Is(err, unix.EINTR):
				fds[i].Fd = -1
				open--
			}
		}
	}
}

// say adds a line of our own.
func (o *output) say(text string) { o.hurry(); o.add([]byte(text), taskfiles.Stderr) }

// hurry says that the program has ended, so that nobody waits for ever.
func (o *output) hurry() { now := time.Now(); o.ended.Store(&now) }

// drain waits until all is read, after the program's end. What is stuck is counted, and not
// written any more: the end comes last.
func (o *output) drain(read ...<-chan struct{}) {
	late := time.NewTimer(drainPatience)
	defer late.Stop()
	for _, done := range read {
		select {
		case <-done:
		case <-late.C:
			o.abandon()
			return
		}
	}
}

// abandon counts what will not be written.
func (o *output) abandon() {
	if o.closed.Swap(true) {
		return
	}
	o.dropped.Add(o.hand.Load())
	for _, fd := range o.pipes {
		if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil {
			o.dropped.Add(int64(n))
		}
	}
}

// add appends a piece.
func (o *output) add(b []byte, s taskfiles.Stream) {
	switch {
	case o.closed.Load():
	case o.fits(int64(len(b))):
		o.append(b, s)
	default:
		if o.dropped.Load() == 0 {
			o.append(fmt.Appendf(nil, "\n[... what comes now was not kept: no daemon was there to make room ...]\n"), s)
		}
		o.dropped.Add(int64(len(b)))
	}
}

// fits says whether there is room within the limit. Who makes room is waited for, once.
func (o *output) fits(n int64) bool {
	o.room -= n
	if o.room >= 0 || o.limit <= 0 {
		return true
	}
	for until := time.Now().Add(roomPatience); ; time.Sleep(roomPause) {
		now := time.Now()
		if o.alone && now.Sub(o.looked) < roomPatience {
			return false
		}
		o.looked = now
		onDisk, ok := o.onDisk()
		if !ok {
			return true
		}
		if o.room = 2*o.limit - onDisk - n; o.room >= 0 {
			o.alone = false
			return true
		}
		if o.alone = o.alone || o.ended.Load() != nil || now.After(until); o.alone {
			return false
		}
	}
}

// onDisk is how many bytes the log takes.
func (o *output) onDisk() (bytes int64, ok bool) {
	info, err := o.file.Stat()
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Blocks * 512, true
}

// append writes marks and piece. A disk that is full is waited for: the program waits as
// well then, as soon as the pipe is full.
func (o *output) append(b []byte, s taskfiles.Stream) {
	o.marks.Set(o.size, s)
	for began := time.Now(); ; time.Sleep(fullPause) {
		o.hand.Store(int64(len(b)))
		n, err := o.write(b)
		b = b[n:]
		o.size += int64(n)
		o.hand.Store(int64(len(b)))
		if err == nil {
			o.broken = false
			break
		}
		if o.givesUp(err, began) {
			if !o.closed.Load() {
				o.dropped.Add(o.hand.Swap(0))
			}
			return
		}
	}
	// Whoever makes room where files cannot have holes cuts it short.
	if end, err := o.file.Seek(0, io.SeekCurrent); err == nil && end != o.size {
		o.size = end
		_ = o.marks.Forget()
	}
}

// write writes the marks of a piece, and then the piece.
func (o *output) write(b []byte) (int, error) {
	if o.closed.Load() {
		return 0, fs.ErrClosed
	}
	if err := o.marks.Write(); err != nil {
		return 0, err
	}
	return o.file.Write(b)
}

// givesUp says whether a piece is dropped which could not be written since it was begun.
func (o *output) givesUp(err error, began time.Time) bool {
	ended := o.ended.Load()
	switch {
	case o.closed.Load(), ended != nil && time.Since(*ended) >= fullPatience:
		return true
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return false
	}
	o.broken = o.broken || time.Since(began) >= faultPatience
	return o.broken
}
