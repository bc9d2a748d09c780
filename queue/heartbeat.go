package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// beatFile shows others that the owner is alive: its content changes. It has the
// same size all the time and is written over in place, which works on a full disk.
// When it was changed nobody asks: clocks of hosts differ.
const beatFile = "owner.beat"

// heartbeat is the goroutine that keeps a lease. release ends it and waits for it.
type heartbeat struct {
	file  *os.File // ours alone: a successor makes another one under the name
	count uint64
	muted bool // that it cannot be written was logged
	quit  chan struct{}
	done  chan struct{}
}

func (l *lease) beatText() string { return fmt.Sprintf("%s %020d\n", l.id, l.beats.count) }

// startBeating makes the file and begins.
func (l *lease) startBeating() error {
	f, err := os.CreateTemp(l.dir, "."+beatFile+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", beatFile, err)
	}
	if _, err = f.WriteString(l.beatText()); err == nil && !l.local {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(l.dir, beatFile))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", beatFile, err), f.Close(), os.Remove(f.Name()))
	}
	l.beats.file, l.beats.quit, l.beats.done = f, make(chan struct{}), make(chan struct{})
	go l.keep()
	return nil
}

// keep looks and beats until the lease is given back or lost.
func (l *lease) keep() {
	defer close(l.beats.done)
	tick := time.NewTicker(l.terms.beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.beats.quit:
			return
		}
		if err := l.look(); errors.Is(err, ErrDeposed) || errors.Is(err, ErrUnlinked) {
			return
		} else if err != nil {
			l.logger.Warn("cannot make sure that the queue is ours", "dir", l.dir, "error", err)
			continue
		}
		l.beat()
	}
}

// beat shows that we are alive. That it cannot be written stops nothing: it serves
// those who would take over, and they have to be told to.
func (l *lease) beat() {
	l.beats.count++
	_, err := l.beats.file.WriteAt([]byte(l.beatText()), 0)
	if err == nil && !l.local {
		err = l.beats.file.Sync()
	}
	if err != nil && !l.beats.muted {
		l.logger.Warn("cannot show other hosts that this process is alive", "file", beatFile, "error", err)
	}
	l.beats.muted = err != nil
}

// stop ends the heartbeat and waits for it.
func (h *heartbeat) stop() {
	if h.quit == nil {
		return
	}
	close(h.quit)
	<-h.done
	h.quit = nil
	_ = h.file.Close() // what it holds is of no use any more
}

// readBeat returns what the heartbeat says now; "" = there is none.
func readBeat(dir string) (string, error) {
	b, err := readSmall(filepath.Join(dir, beatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}
