package containerinit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// disk is one that fails as it is told, and says in which order it was written to.
type disk struct {
	mu     sync.Mutex
	fails  error // of the log
	marks  error
	set    bool // a mark is to be stored
	order  []string
	blocks int64
}

// fail has writing to the log fail from now on, and that of marks; nil = it does not.
func (d *disk) fail(log, marks error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails, d.marks = log, marks
}

func (d *disk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return 0, d.fails
	}
	d.order = append(d.order, string(b))
	return len(b), nil
}

func (d *disk) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }

func (d *disk) Stat() (fs.FileInfo, error) { return onDisk{blocks: d.blocks}, nil }

// written are the pieces, and "mark" where marks were stored.
func (d *disk) written() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.order)
}

func (d *disk) text() string {
	return strings.Join(slices.DeleteFunc(d.written(), func(s string) bool { return s == "mark" }), "")
}

type onDisk struct {
	fs.FileInfo
	blocks int64
}

func (i onDisk) Sys() any { return &syscall.Stat_t{Blocks: i.blocks} }

// marking stores the marks of a disk.
type marking struct{ d *disk }

func (m marking) Set(int64, taskfiles.Stream) { m.d.set = true }
func (m marking) Forget() error               { return nil }

func (m marking) Write() error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.marks != nil {
		return m.d.marks
	}
	if m.d.set {
		m.d.order, m.d.set = append(m.d.order, "mark"), false
	}
	return nil
}

func onto(d *disk) *output { return &output{file: d, marks: marking{d}, pipes: [2]int{-1, -1}} }

// A disk that is full holds the program up, however long, and loses nothing.
func TestFullDiskIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{fails: unix.ENOSPC}
		o := onto(d)
		time.AfterFunc(time.Hour, func() { d.fail(nil, nil) })
		o.add([]byte("kept"), taskfiles.Stdout)
		if o.dropped.Load() != 0 || d.text() != "kept" {
			t.Errorf("%q is there, and %d bytes were dropped", d.text(), o.dropped.Load())
		}
	})
}

// Who has ended waits for room no longer than its pipes are read: all that is lost is
// counted, and nothing is written afterwards.
func TestFullDiskAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{fails: unix.ENOSPC}
		o := onto(d)
		pieces := make(chan string, 3) // as a pipe holds them
		for _, p := range []string{"one", "three", "eleven more"} {
			pieces <- p
		}
		close(pieces)
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			for p := range pieces {
				o.add([]byte(p), taskfiles.Stdout)
			}
		}()
		time.Sleep(time.Minute) // it is full for long already
		ended := time.Now()
		o.hurry()
		o.drain(copied)
		if o.dropped.Load() != 3+5+11 || o.closed.Load() || time.Since(ended) >= drainPatience {
			t.Errorf("%d bytes dropped, abandoned: %v, after %s", o.dropped.Load(), o.closed.Load(), time.Since(ended))
		}
		<-copied
	})
}

// What is stuck in a write is counted with what is in the pipes, and comes never after the end.
func TestStuckOutputIsCounted(t *testing.T) {
	t.Parallel()
	var pipe [2]int
	must(t, unix.Pipe(pipe[:]))
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, err := unix.Write(pipe[1], make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		o := onto(d)
		o.pipes[1] = pipe[0]
		stuck, copied := make(chan struct{}), make(chan struct{})
		o.file = stall{d, stuck}
		go func() {
			defer close(copied)
			o.add([]byte("stuck"), taskfiles.Stdout)
			o.add([]byte("too late"), taskfiles.Stdout)
		}()
		synctest.Wait()
		o.hurry()
		o.drain(copied)
		if got := o.dropped.Load(); got != 1000+5 {
			t.Errorf("%d bytes dropped", got)
		}
		close(stuck)
		<-copied
		if got := o.dropped.Load(); got != 1000+5 || d.text() != "" {
			t.Errorf("afterwards: %d bytes dropped, %q is there", got, d.text())
		}
	})
}

// stall is a disk that does not answer until it fails.
type stall struct {
	*disk
	stuck chan struct{}
}

func (s stall) Write([]byte) (int, error) { <-s.stuck; return 0, unix.ENOSPC }

// A disk that cannot be written to for another reason does not hold the program for ever.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{fails: unix.EIO}
		o := onto(d)
		began := time.Now()
		o.add([]byte("one"), taskfiles.Stdout)
		first := time.Since(began)
		o.add([]byte("two"), taskfiles.Stdout)
		if o.dropped.Load() != 6 || first > 2*faultPatience || time.Since(began) != first {
			t.Errorf("%d bytes dropped, the first after %s, all after %s", o.dropped.Load(), first, time.Since(began))
		}
		d.fail(nil, nil)
		o.add([]byte("three"), taskfiles.Stdout)
		d.fail(unix.ESTALE, nil)
		time.AfterFunc(faultPatience/2, func() { d.fail(nil, nil) }) // its file server was restarted
		o.add([]byte("four"), taskfiles.Stdout)
		if d.text() != "threefour" || o.dropped.Load() != 6 {
			t.Errorf("%q is there, and %d bytes were dropped", d.text(), o.dropped.Load())
		}
	})
}

// Marks come before what they speak of, also where they could not be written at once.
func TestMarksComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{marks: unix.ENOSPC}
		time.AfterFunc(time.Minute, func() { d.fail(nil, nil) })
		onto(d).add([]byte("text"), taskfiles.Stderr)
		if !slices.Equal(d.written(), []string{"mark", "text"}) {
			t.Errorf("%q", d.written())
		}
	})
}

// Twice the limit is kept while nobody makes room, and what comes after is counted.
func TestOutputLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		o := onto(d)
		o.limit = 1024
		o.add(make([]byte, 1000), taskfiles.Stdout)
		d.blocks = 4
		began := time.Now()
		o.add(make([]byte, 1100), taskfiles.Stdout) // a daemon is waited for
		waited := time.Since(began)
		o.add(make([]byte, 1100), taskfiles.Stdout) // and then it is not
		if o.dropped.Load() != 2*1100 || waited < roomPatience || time.Since(began) != waited || strings.Count(d.text(), "was not kept") != 1 {
			t.Errorf("%d bytes dropped after %s and %s: %d are there", o.dropped.Load(), waited, time.Since(began), len(d.text()))
		}
		d.blocks = 1
		time.Sleep(roomPatience)
		o.add([]byte("room again"), taskfiles.Stdout)
		if !strings.HasSuffix(d.text(), "room again") {
			t.Error("there is room, and it is not used")
		}
	})
}

// The end is written as soon as that can be done, within a bound.
func TestEndIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		way := filepath.Join(dir, endFile)
		must(t, os.Mkdir(way, 0o700)) // it stands in the way
		began := time.Now()
		if err := (End{Code: 3}).keep(dir); err == nil || time.Since(began) < endPatience || time.Since(began) > 2*endPatience {
			t.Errorf("%v, after %s", err, time.Since(began))
		}
		time.AfterFunc(endPatience/2, func() { must(t, os.Remove(way)) })
		must(t, End{Code: 3}.keep(dir))
		if r := record(t, dir); r.End == nil || r.End.Code != 3 {
			t.Errorf("%+v", r)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}
