package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// Litter is what those leave behind who are killed: supervisors their cgroups,
// and a machine that is started anew the journals of the time before. Only what
// bears our name is looked at, and of that nothing that somebody has locked.

const (
	// spoolAge is how long the spool of another boot is kept.
	spoolAge = 24 * time.Hour
	// beatEvery is how often a supervisor touches its journals' locks. It has a lock
	// on each; that one is heeded on all hosts is not to be relied on.
	beatEvery = time.Hour
)

// sweepGrace is when, after a start, litter is looked for: not when everybody
// starts at once. A variable for tests.
var sweepGrace = time.Minute

// sweepCgroups removes the cgroups of other supervisors that are gone.
func (s *supervisor) sweepCgroups(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(sweepGrace):
		s.cgroups.sweepOthers()
	}
}

// sweepSpool removes the spools beside a queue's that are of earlier boots of this
// machine and hold no record. What holds any is taken over first (see takeOver).
func (s *supervisor) sweepSpool(q *queue) {
	s.beat(q)
	removed, err := sweepSpools(q.journal.dir, spoolAge)
	if err != nil {
		s.log.Warn("old spools cannot be removed", "queue", q.id, "dir", filepath.Dir(q.journal.dir), "error", err)
	}
	if len(removed) > 0 {
		s.log.Info("removed spools of earlier boots", "queue", q.id, "dirs", removed)
	}
}

// beat shows that the journal's supervisor lives.
func (s *supervisor) beat(q *queue) {
	if err := q.journal.announce(filepath.Join(s.opts.RuntimeDir, socketName)); err != nil {
		s.log.Warn("cannot say in the spool where this supervisor is", "queue", q.id, "error", err)
	}
}

// sweepSpools removes from beside the spool own those of the same machine and
// another boot that hold nothing and that nobody has touched for that long, by
// the clock of the file server: own has just been written to.
func sweepSpools(own string, age time.Duration) (removed []string, err error) {
	st, err := os.Stat(filepath.Join(own, lockFileName))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Dir(own))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		dir := filepath.Join(filepath.Dir(own), e.Name())
		if !e.IsDir() || !otherBoot(filepath.Base(own), e.Name()) || fileSize(filepath.Join(dir, journalName)) > 0 || st.ModTime().Sub(lastTouched(dir)) < age {
			continue
		}
		switch gone, sweepErr := removeSpool(dir); {
		case sweepErr != nil:
			err = errors.Join(err, sweepErr)
		case gone:
			removed = append(removed, dir)
		}
	}
	return removed, err
}

// otherBoot says whether name is that of a spool of the same machine and another
// boot (see spoolName).
func otherBoot(own, name string) bool {
	o, n := spoolName.FindStringSubmatch(own), spoolName.FindStringSubmatch(name)
	return o != nil && n != nil && o[1] == n[1] && o[2] != n[2]
}

// spoolFiles are all that a spool can hold.
var spoolFiles = []string{journalName, journalName + newSuffix, cardName, lockFileName}

// lastTouched returns when one of a spool's files was last written to.
func lastTouched(dir string) (last time.Time) {
	for _, name := range spoolFiles {
		if st, err := os.Lstat(filepath.Join(dir, name)); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}

// contents returns what is ours in a spool: a folder behind what is in it, and the lock
// last.
func contents(dir string) (names []string) {
	for _, in := range []string{requestsDir, "."} {
		entries, err := os.ReadDir(filepath.Join(dir, in))
		if err != nil {
			continue // it is not there, or the spool stays
		}
		for _, e := range entries {
			if inSpool(e) {
				names = append(names, filepath.Join(in, e.Name()))
			}
		}
	}
	return append(names, spoolFiles...)
}

// inSpool says whether we make such a thing in spools, beside spoolFiles.
func inSpool(e os.DirEntry) bool {
	_, asked := parseRequest(e.Name())
	return e.IsDir() && e.Name() == requestsDir ||
		e.Type().IsRegular() && (asked || strings.HasPrefix(e.Name(), handOverPrefix) || strings.HasPrefix(e.Name(), lookPrefix))
}

// removeSpool removes a spool that no supervisor has. A directory with anything
// else in it stays, with that.
func removeSpool(dir string) (gone bool, err error) {
	lock, err := host.Lock(filepath.Join(dir, lockFileName))
	if errors.Is(err, host.ErrLocked) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove an old spool: %w", err)
	}
	defer lock.Close() //nolint:errcheck // only a lock
	for _, name := range contents(dir) {
		err := os.Remove(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return false, fmt.Errorf("remove an old spool: %w", err)
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return false, fmt.Errorf("remove an old spool: %w", &os.PathError{Op: "rmdir", Path: dir, Err: err})
	}
	return true, nil
}
