package queue

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
)

// The owner's lease. The lock of the database tells processes of one kernel apart.
// Between hosts it may hang, or be granted to several; so the owner also holds
// owner.json, which it was given by link(2), looks there every other second, and
// makes sure before and after each commit that it did so a moment ago. Who has been
// followed by another finds out at the latest then, however long it was frozen.

// terms are the times of a lease.
type terms struct {
	// beat is how often the owner looks whether it still is one, and shows that it is
	// alive.
	beat time.Duration
	// confirm is how long it believes what it has seen.
	confirm time.Duration
	// watch is how long an owner has to be silent before it may be replaced.
	watch time.Duration
	// grace is how long its successor waits, once it holds owner.json, before it
	// does anything: longer than confirm.
	grace time.Duration
}

var defaultTerms = terms{beat: 2 * time.Second, confirm: 5 * time.Second, watch: 15 * time.Second, grace: 6 * time.Second}

// lease is the one that this process has, or is about to get.
type lease struct {
	dir    string
	local  bool // the file system is: nothing has to be forced to a server
	terms  terms
	clock  func() time.Time
	logger *slog.Logger

	id     string
	before uint64 // fence of the one that we follow
	beats  heartbeat

	mu      sync.Mutex
	owner   Owner     // what owner.json says
	current int       // the generation that we have put in use; 0 = none yet
	named   time.Time // when owner.json was last made ours

	seen       atomic.Pointer[time.Time] // when owner.json was last known to be ours
	until      atomic.Int64              // see Queue.LeaseUntil
	deposition deposition

	database atomic.Pointer[os.File] // bbolt's, which closes it; nil = it is not open yet
}

func newLeaseID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails; it ends the program instead
	return hex.EncodeToString(b[:])
}

// The places where a crash test can die while a lease changes hands.
var _ = failpoint.Declare("lease/written", "lease/linked", "lease/claimed", "lease/placed", "lease/swept", "lease/beating", "lease/released")

// err is what every call returns once the lease is lost. A nil lease is that of one
// who only reads.
func (l *lease) err() error {
	if l == nil {
		return nil
	}
	return l.deposition.Err()
}

// confirm makes sure that the lease is ours: by the clock, if that was seen a moment
// ago, else by looking. An error that does not match ErrDeposed means that it could
// not be found out.
func (l *lease) confirm() error {
	if l == nil {
		return nil
	}
	if seen := l.seen.Load(); seen == nil || !within(*seen, l.clock(), l.terms.confirm) {
		return l.look()
	}
	if err := l.deposition.Err(); err != nil {
		return err
	}
	return l.stillThere()
}

// within says whether less than d has passed, by both clocks. The monotonic one
// stands still while the machine is suspended. The other does not, and may be set;
// that it is set back by just as much as the machine slept is left to chance.
// CLOCK_BOOTTIME would tell alone, but takes a system call, and this is asked twice
// for each commit.
func within(from, to time.Time, d time.Duration) bool {
	return bothWithin(to.Sub(from), to.Round(0).Sub(from.Round(0)), d)
}

func bothWithin(steady, wall, d time.Duration) bool {
	return 0 <= steady && steady < d && 0 <= wall && wall < d
}

// look reads whose the lease is.
func (l *lease) look() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lookNow()
}

// lookNow is look, with the mutex held.
func (l *lease) lookNow() error {
	if err := l.deposition.Err(); err != nil {
		return err
	}
	if err := l.stillThere(); err != nil {
		return err
	}
	now, boot := l.clock(), bootTime() // before it is read: it is true of no later moment
	current, err := currentGeneration(l.dir)
	if err != nil {
		return fmt.Errorf("make sure that the queue is ours: %w", err)
	}
	s, err := readSeat(filepath.Join(l.dir, OwnerFile))
	if err != nil {
		return fmt.Errorf("make sure that the queue is ours: %w", err)
	}
	switch {
	case current > max(l.owner.Generation, l.current):
		return l.depose(s.owner)
	case s.key == l.id:
	case s.owner == nil && l.local: // here others go by the lock
	case s.owner == nil || s.owner.Generation < l.owner.Generation:
		// Nobody is named: it was removed, or written over by somebody else. Or by the
		// owner before us, who had been frozen while it wrote its name.
		if err := l.restore(s); err != nil {
			return err
		}
	default:
		return l.depose(s.owner)
	}
	if current < l.current {
		if err := l.putBack(); err != nil {
			return err
		}
	}
	l.seen.Store(&now)
	l.until.Store(boot + int64(l.terms.confirm))
	return nil
}

// restore puts our name back.
func (l *lease) restore(s seat) error {
	l.logger.Warn("owner.json did not say that the queue is ours; it is written again", "dir", l.dir)
	path, err := l.write()
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }() // it is there only after a failure
	if s.key == "" {
		err = l.link(path, OwnerFile)
	} else if err = l.claim(path, s); err == nil {
		if err = os.Rename(path, filepath.Join(l.dir, OwnerFile)); err == nil {
			_ = os.Remove(filepath.Join(l.dir, claimFile(s.key))) // one that stays leads nowhere
		}
	}
	if errors.Is(err, errTaken) {
		return fmt.Errorf("make sure that the queue is ours: %w", err) // the next look tells who
	}
	if err == nil {
		l.named = l.clock()
	}
	return err
}

// putInUse makes a database the one in use, if the queue still is ours. It never goes
// back to an earlier one: who was frozen before it could do this finds the copy of its
// successor in use.
func (l *lease) putInUse(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.lookNow(); err != nil {
		return err
	}
	if err := writeCurrent(l.dir, name); err != nil {
		return err
	}
	l.current = generationOf(name)
	return nil
}

// putBack does it once more: one that was frozen in the middle of putInUse has put
// its own database in use again.
func (l *lease) putBack() error {
	l.logger.Warn("a former owner of the queue put an earlier database in use again; it is put right", "dir", l.dir)
	return writeCurrent(l.dir, generationName(l.current))
}

// noteNamed notes that owner.json was made ours just now.
func (l *lease) noteNamed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.named = l.clock()
}

// namedFor is for how long it has been ours.
func (l *lease) namedFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock().Sub(l.named)
}

// write writes what owner.json is to say into a file beside it.
func (l *lease) write() (path string, err error) {
	b, err := json.MarshalIndent(l.owner, "", "  ")
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(l.dir, "."+OwnerFile+".*")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", OwnerFile, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && !l.local {
		// After a crash of this machine it says nothing anyway; but a server has to know.
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", OwnerFile, err), os.Remove(f.Name()))
	}
	failpoint.Here("lease/written")
	return f.Name(), nil
}

// publish changes what owner.json says about us.
func (l *lease) publish(change func(*Owner)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.owner)
	path, err := l.write()
	if err != nil {
		return err
	}
	s, err := readSeat(filepath.Join(l.dir, OwnerFile))
	switch {
	case err != nil:
	case s.owner == nil && l.local:
		// We have the lock, which is true here: a look leaves it at that, but people go by it.
		if err = l.deposition.Err(); err == nil {
			err = l.restore(s)
		}
		return errors.Join(err, os.Remove(path))
	case s.key != l.id:
		return errors.Join(l.lookNow(), os.Remove(path)) // it puts that right, or we leave
	default:
		err = os.Rename(path, filepath.Join(l.dir, OwnerFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return l.syncDir()
}

// syncDir makes names known to the server.
func (l *lease) syncDir() error {
	if l.local {
		return nil
	}
	return syncDir(l.dir)
}

// release gives the lease back, if it still is ours.
func (l *lease) release() {
	if l == nil {
		return
	}
	l.beats.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	path := filepath.Join(l.dir, OwnerFile)
	if s, err := readSeat(path); err == nil && s.key == l.id {
		_ = os.Remove(path) // a stale one names a process that is gone
		_ = l.syncDir()
		_ = os.Remove(filepath.Join(l.dir, beatFile)) // one that stays does not change
	}
	failpoint.Here("lease/released")
}

// bootTime is CLOCK_BOOTTIME, in nanoseconds: all processes of a boot agree on it.
func bootTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // it cannot fail: the clock exists since Linux 2.6.39
	return ts.Nano()
}

// ConfirmLease returns nil if the queue is still this process's. It costs a clock
// read, or two small files. Whoever is about to do something outside on behalf of
// the queue asks first.
func (q *Queue) ConfirmLease() error { return q.lease.confirm() }

// LeaseUntil returns up to when, on CLOCK_BOOTTIME in nanoseconds, the last
// confirmation holds: what is done before that is done by the owner. 0 = a reader's.
func (q *Queue) LeaseUntil() int64 {
	if q.lease == nil {
		return 0
	}
	return q.lease.until.Load()
}
