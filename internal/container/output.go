package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

const (
	// flushAt is how much output is collected at most before it is written.
	flushAt = 64 << 10
	// memory is how many seconds of output are looked at again when reading begins
	// anew. Engines put a time to a piece of output before they store it, so times
	// are out of order by as long as that takes.
	memory = 20
	// outputPatience is how long the stream of a container that has ended may last.
	outputPatience = 10 * time.Second
	// outputPause is between two attempts to read.
	outputPause = time.Second
)

// position is how much of a container's output is here: of what the engine has from
// Since on, in its order, so many entries, which end at Offset of the file. An engine
// gives the same entries in the same order each time it is asked.
type position struct {
	Since  int64 // seconds since 1970
	Skip   int64
	Offset int64
}

const positionFormat = "%020d %020d %020d\n"

// output brings the output of a container into the file of the attempt.
type output struct {
	r     *run
	file  *os.File
	note  *os.File // where the position is
	marks *taskfiles.Marks
	pos   position
	cap   int64
	cutAt int64 // the size at which the middle is cut out

	// polled says that the stream of the engine repeated itself, and what is new is asked
	// for instead.
	polled bool
	ended  chan struct{} // closed when the container has ended

	// Of one read.
	skip    int64
	follows bool
	latest  [2]time.Time    // of an entry, by stream
	seconds map[int64]int64 // entries of each second that is not too long ago
	newest  int64
	buf     []byte
	entries int64 // in buf

	follower sync.WaitGroup
	cancel   context.CancelFunc
	mu       sync.Mutex // one reads at a time
}

// openOutput opens the file and the position.
func (r *run) openOutput() (*output, error) {
	path := r.b.layout.LogPath(r.ref)
	if err := r.b.layout.Prepare(r.ref); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.b.path(r.ref), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	note, err := os.OpenFile(filepath.Join(r.b.path(r.ref), outputFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the position of output: %w", err), f.Close())
	}
	o := &output{r: r, file: f, note: note, ended: make(chan struct{}), cap: r.b.opts.LogCap}
	o.cutAt = o.cap + o.cap/4
	var p position
	b := make([]byte, 63)
	if n, _ := note.ReadAt(b, 0); n == len(b) {
		if _, err := fmt.Sscanf(string(b), positionFormat, &p.Since, &p.Skip, &p.Offset); err == nil {
			o.pos = p
		}
	}
	if o.marks, err = taskfiles.OpenMarks(path, o.pos.Offset); err != nil {
		return nil, errors.Join(err, f.Close(), note.Close())
	}
	return o, nil
}

// follow has the output come as it is printed.
func (r *run) follow(ctx context.Context) {
	if r.output != nil {
		return
	}
	o, err := r.openOutput()
	if err != nil {
		r.b.opts.Logger.Error("the output of a task cannot be written; will try again at its end", "task", r.ref.Seq, "error", err)
		return
	}
	r.output = o
	ctx, o.cancel = context.WithCancel(ctx)
	o.follower.Go(func() {
		for ctx.Err() == nil {
			err := o.read(ctx, !o.polled)
			switch {
			case errors.Is(err, errRepeated):
				o.polled = true
			case err == nil && !o.polled:
				return
			}
			if err != nil && !o.polled && !away(err) && !errors.Is(err, docker.ErrNoContainer) {
				r.b.opts.Logger.Warn("the output of a container cannot be followed; will try again", "task", r.ref.Seq, "error", err)
			}
			select {
			case <-ctx.Done():
			case <-o.ended:
				if o.polled {
					return // what is left is read by who has noticed the end
				}
				<-time.After(outputPause)
			case <-time.After(outputPause):
			}
		}
	})
}

// finishOutput reads what is left after the end, and returns how much there is.
func (r *run) finishOutput(ctx context.Context) (int64, error) {
	if r.kept {
		return r.boundLog()
	}
	if r.output == nil {
		o, err := r.openOutput()
		if err != nil {
			return 0, err
		}
		r.output = o
	}
	o := r.output
	if o.cancel != nil {
		o.closeEnded()
		// The stream ends with the container; what it has not brought, the read below does.
		late := time.AfterFunc(outputPatience, o.cancel)
		o.follower.Wait()
		late.Stop()
	}
	if err := o.read(ctx, false); err != nil {
		return 0, err
	}
	return o.pos.Offset, nil
}

// closeOutput ends whoever follows, and closes the files.
func (r *run) closeOutput() {
	o := r.output
	if o == nil {
		return
	}
	if o.cancel != nil {
		o.cancel()
		o.follower.Wait()
	}
	if err := errors.Join(o.file.Close(), o.note.Close(), o.marks.Close()); err != nil {
		r.b.opts.Logger.Warn("the output of a task cannot be closed", "task", r.ref.Seq, "error", err)
	}
}

// closeEnded tells who follows that there will be no more.
func (o *output) closeEnded() {
	select {
	case <-o.ended:
	default:
		close(o.ended)
	}
}

// errRepeated: engines before 24 that follow an output over the beginning of a new file
// may give the last one once more. Within one stream times do not go back otherwise.
// What is asked for without following comes once, and in order.
var errRepeated = errors.New("the engine repeats itself")

// read reads from the position on.
func (o *output) read(ctx context.Context, follow bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.follows, o.latest = follow, [2]time.Time{}
	o.skip, o.seconds, o.newest, o.buf, o.entries = o.pos.Skip, map[int64]int64{}, 0, o.buf[:0], 0
	opts := docker.LogOptions{Follow: follow}
	if o.pos.Since > 0 {
		opts.Since = time.Unix(o.pos.Since, 0)
	}
	err := o.r.b.engine.Logs(ctx, o.r.name, opts, o.take, o.flush)
	return errors.Join(err, o.flush())
}

// take takes one entry.
func (o *output) take(e docker.Entry) error {
	latest := &o.latest[0]
	if e.Stderr {
		latest = &o.latest[1]
	}
	if o.follows && e.At.Before(*latest) {
		return errRepeated
	}
	*latest = e.At
	sec := e.At.Unix()
	o.seconds[sec]++
	o.newest = max(o.newest, sec)
	if o.skip > 0 {
		o.skip--
		return nil
	}
	stream := taskfiles.Stdout
	if e.Stderr {
		stream = taskfiles.Stderr
	}
	o.marks.Set(o.pos.Offset+int64(len(o.buf)), stream)
	o.buf = append(o.buf, e.Text...)
	o.entries++
	if len(o.buf) >= flushAt {
		return o.flush()
	}
	return nil
}

// flush writes what was collected, and then where it ends. Killed in between, the same
// is written over itself the next time.
func (o *output) flush() error {
	if o.entries == 0 {
		return nil
	}
	if err := o.marks.Write(); err != nil {
		return err
	}
	if _, err := o.file.WriteAt(o.buf, o.pos.Offset); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	o.pos.Offset += int64(len(o.buf))
	o.pos.Skip += o.entries
	o.buf, o.entries = o.buf[:0], 0
	if err := o.bound(); err != nil {
		return err
	}
	o.rebase()
	if _, err := o.note.WriteAt(fmt.Appendf(nil, positionFormat, o.pos.Since, o.pos.Skip, o.pos.Offset), 0); err != nil {
		return fmt.Errorf("write the position of output: %w", err)
	}
	return nil
}

// rebase moves Since on, so that little is read twice, and an engine that drops old
// output does not confuse the count.
func (o *output) rebase() {
	since := o.newest - memory
	if since < o.pos.Since+memory {
		return
	}
	o.pos.Since, o.pos.Skip = since, 0
	for sec, n := range o.seconds {
		if sec < since {
			delete(o.seconds, sec)
			continue
		}
		o.pos.Skip += n
	}
}

// bound cuts the middle out of an output that has grown too large.
func (o *output) bound() error {
	if o.pos.Offset < o.cutAt {
		return nil
	}
	path := o.r.b.layout.LogPath(o.r.ref)
	if err := taskfiles.CutLog(int(o.file.Fd()), path, o.pos.Offset, o.cap); err != nil {
		o.r.b.opts.Logger.Warn("the output of a task cannot be cut", "task", o.r.ref.Seq, "error", err)
	}
	st, err := o.file.Stat()
	if err != nil {
		return err
	}
	if st.Size() < o.pos.Offset { // where a file cannot have holes, it was cut short
		o.pos.Offset = st.Size()
		if err := o.marks.Forget(); err != nil {
			return err
		}
	}
	o.cutAt = o.pos.Offset + o.cap/4
	return nil
}
