package dropfolder

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// fileClock relates the times of files to our clock: on a file server they are those of
// the server, whose clock may be wrong by any amount, or ours. The zero value knows
// nothing.
type fileClock struct {
	known bool
	ahead time.Duration // how far it is ahead of ours, to what a look takes
}

// age is for how long a file has been as it is, by its own time; 0 where that cannot be
// told.
func (c fileClock) age(changed unix.Timespec, now time.Time) time.Duration {
	if !c.known {
		return 0
	}
	return now.Add(c.ahead).Sub(time.Unix(changed.Unix()))
}

// readClock makes a file, to see what time it gets. Its name is one that is tidied up
// after a crash.
func (d *dir) readClock(ticket string, now time.Time) (c fileClock, err error) {
	f, err := d.stage(ticket, []byte("what time is it\n"))
	if err != nil {
		return c, fmt.Errorf("look what time it is on the file system: %w", err)
	}
	var st unix.Stat_t
	err = errors.Join(again(func() error { return unix.Fstat(int(f.Fd()), &st) }), f.Close(), d.remove(tempName(ticket)))
	if err != nil {
		return c, fmt.Errorf("look what time it is on the file system: %w", err)
	}
	return fileClock{known: true, ahead: time.Unix(st.Ctim.Unix()).Sub(now)}, nil
}

// setClock looks at the file system's clock, if a file is about to be judged by its age.
// Where that fails, as on a full disk, files wait for our patience.
func (f *Folder) setClock(now time.Time) {
	f.opts.clock = fileClock{known: !f.opts.Network}
	if !f.opts.Network || !f.pending.halfWritten() && len(f.wishes.looks) == 0 && !f.taken.halfWritten() {
		return
	}
	ticket, err := f.nextTicket(now)
	if err != nil {
		return
	}
	c, err := f.layout.taken.readClock(ticket, now)
	if err != nil {
		f.opts.Logger.Debug("files that are not whole are waited for, however old they are", "error", err)
		return
	}
	f.opts.clock = c
}

// halfWritten says whether one of the files cannot be taken as it is.
func (s *scanner) halfWritten() bool {
	for _, l := range s.looks {
		if l.problem != "" {
			return true
		}
	}
	return false
}

func (t *taken) halfWritten() bool {
	for _, e := range t.unsettled {
		if e.look.problem != "" {
			return true
		}
	}
	return false
}
