package dropfolder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watch tells that something was put into the folder. It is only ever a reason to
// look sooner: what it misses, the next poll finds.
type watch struct {
	changed chan struct{}
	f       *os.File
	done    sync.WaitGroup
}

// noWatch never tells anything.
func noWatch() *watch { return &watch{changed: make(chan struct{}, 1)} }

// watch watches the open folder, if inotify can.
func (f *Folder) watch() *watch {
	w := noWatch()
	if f.opts.Network || f.layout == nil {
		return w
	}
	if err := w.open(f.layout.pending, f.layout.requests); err != nil {
		f.opts.Logger.Info("the drop folder is looked at every few seconds instead of being watched", "error", err)
		return noWatch()
	}
	return w
}

func (w *watch) open(dirs ...*dir) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch with inotify: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	for _, d := range dirs {
		// By its descriptor: the path may lead elsewhere by now.
		path := fmt.Sprintf("/proc/self/fd/%d", d.fd())
		const events = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_ONLYDIR
		if _, err := unix.InotifyAddWatch(fd, path, events); err != nil {
			return errors.Join(fmt.Errorf("watch %s: %w", d.path, err), file.Close())
		}
	}
	w.f = file
	w.done.Go(w.run)
	return nil
}

// run reads events until the descriptor is closed. What they say does not matter.
func (w *watch) run() {
	var buf [16 << 10]byte
	for {
		if _, err := w.f.Read(buf[:]); err != nil {
			return
		}
		signal(w.changed)
	}
}

func (w *watch) close() {
	if w.f != nil {
		_ = w.f.Close() // ends the read
		w.done.Wait()
	}
}

// signal tells a reader, unless it has been told already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follower tells that the event log has grown.
type follower struct {
	ended  chan struct{} // something may have ended
	failed chan error
	done   sync.WaitGroup
	cancel context.CancelFunc
}

func follow(ctx context.Context, log Log) *follower {
	ctx, cancel := context.WithCancel(ctx)
	fo := &follower{ended: make(chan struct{}, 1), failed: make(chan error, 1), cancel: cancel}
	seen := log.LastIndex()
	fo.done.Go(func() {
		for {
			err := log.WaitRecords(ctx, seen)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				fo.failed <- err
				return
			}
			seen = log.LastIndex()
			signal(fo.ended)
		}
	})
	return fo
}

func (fo *follower) wait() {
	fo.cancel()
	fo.done.Wait()
}
