package containerinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

const (
	// pieceSize is how much is read at a time: what a pipe holds.
	pieceSize = 64 << 10
	// fullPause is between two attempts to write to a disk that is full.
	fullPause = time.Second
	// fullPatience is how long the end may wait for room.
	fullPatience = 10 * time.Second
	// roomPatience is how long a daemon may take to cut the log, or to be there again.
	roomPatience = 10 * time.Second
	roomPause    = 100 * time.Millisecond
)

// output appends what the program prints to its log. The daemon cuts the middle out of one
// that grows too large; while there is none, twice as much is kept, and no more.
type output struct {
	pipes   [2]int
	file    *os.File
	marks   *taskfiles.Marks
	size    int64
	limit   int64 // bytes on disk
	room    int64 // until it is to be looked at again
	looked  time.Time
	alone   bool // nobody has made room
	dropped int64
	rushed  atomic.Bool // the program has ended
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
	o.marks, err = taskfiles.OpenMarks(filepath.Join(dir, OutputFile), o.size)
	return err
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
func (o *output) hurry() { o.rushed.Store(true) }

// add appends a piece.
func (o *output) add(b []byte, s taskfiles.Stream) {
	if !o.fits(int64(len(b))) {
		if o.dropped == 0 {
			o.append(fmt.Appendf(nil, "\n[... what comes now was not kept: no daemon was there to make room ...]\n"), s)
		}
		o.dropped += int64(len(b))
		return
	}
	o.append(b, s)
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
		var st unix.Stat_t
		if err := unix.Fstat(int(o.file.Fd()), &st); err != nil {
			return true
		}
		if o.room = 2*o.limit - st.Blocks*512 - n; o.room >= 0 {
			o.alone = false
			return true
		}
		if o.alone = o.alone || o.rushed.Load() || now.After(until); o.alone {
			return false
		}
	}
}

// append writes marks and piece. A disk that is full is waited for: the program waits as
// well then, as soon as the pipe is full.
func (o *output) append(b []byte, s taskfiles.Stream) {
	o.marks.Set(o.size, s)
	var late time.Time
	for err := o.marks.Write(); ; err = nil {
		for len(b) > 0 && err == nil {
			var n int
			n, err = o.file.Write(b)
			b = b[n:]
			o.size += int64(n)
		}
		if len(b) == 0 {
			break
		}
		if late.IsZero() && o.rushed.Load() {
			late = time.Now().Add(fullPatience)
		}
		if !late.IsZero() && time.Now().After(late) {
			o.dropped += int64(len(b))
			return
		}
		time.Sleep(fullPause)
	}
	// Whoever makes room where files cannot have holes cuts it short.
	if end, err := o.file.Seek(0, 1); err == nil && end != o.size {
		o.size = end
		_ = o.marks.Forget()
	}
}
