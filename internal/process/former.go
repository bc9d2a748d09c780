package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Pauses between two looks at what may still run where we cannot see it: it may
// run for weeks.
const (
	formerFirst = time.Minute
	formerLast  = time.Hour
)

// formerLook is about the journals of earlier boots, of which something may still
// run. The supervisor's mutex guards it.
type formerLook struct {
	dirs  []string
	at    bootTime // when to look at them again
	pause time.Duration
	said  map[string]string // what was logged last about each, since it may stay so for long
}

// again plans the next look, so long after this one.
func (f *formerLook) again(dirs []string, pause time.Duration) {
	f.dirs, f.pause, f.at = dirs, pause, bootNow().add(pause)
}

// later plans the next look after one at which nobody came to ask for it.
func (f *formerLook) later(dirs []string) { f.again(dirs, min(2*f.pause, formerLast)) }

// news says whether text differs from what was said last about a journal; "" =
// there is nothing to say.
func (f *formerLook) news(dir, text string) bool {
	if f.said[dir] == text {
		return false
	}
	if f.said == nil {
		f.said = map[string]string{}
	}
	f.said[dir] = text
	return text != ""
}

// takeOver brings what the journals of earlier boots say into the present one:
// ends that the queue was not told of before the machine was restarted, and of
// the attempts without an end, that they are lost. A journal of which nothing is
// left is removed; the others are looked at again by the clerk.
func (s *supervisor) takeOver(q *queue, dirs []string) {
	left := s.takeOverAll(q, dirs)
	s.mu.Lock()
	defer s.mu.Unlock()
	q.former.again(left, formerFirst)
}

// takeOverAll returns those of which something is left.
func (s *supervisor) takeOverAll(q *queue, dirs []string) (later []string) {
	for _, dir := range dirs {
		if dir == q.journal.dir || fileSize(filepath.Join(dir, journalName)) < 0 {
			continue
		}
		left, err := s.takeOverOne(q, dir)
		s.sayFormer(q, dir, err)
		if left || err != nil {
			later = append(later, dir)
		}
	}
	return later
}

// sayFormer logs why a journal could not be taken over, unless that is what was
// logged before.
func (s *supervisor) sayFormer(q *queue, dir string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	news := q.former.news(dir, text)
	s.mu.Unlock()
	switch {
	case !news:
	case errors.Is(err, errJournalHeld):
		// Its supervisor runs, in another container or on a machine with a copy of
		// our id.
		s.log.Info("another supervisor has the journal of an earlier boot", "queue", q.id, "dir", dir)
	default:
		s.log.Warn("cannot take over the journal of an earlier boot; it is tried again", "queue", q.id, "dir", dir, "error", err)
	}
}

// takeOverLater looks again at what was left, when it is time.
func (s *supervisor) takeOverLater(q *queue) {
	s.mu.Lock()
	dirs := q.former.dirs
	due := len(dirs) > 0 && bootNow() >= q.former.at
	s.mu.Unlock()
	if !due {
		return
	}
	left := s.takeOverAll(q, dirs)
	s.mu.Lock()
	defer s.mu.Unlock()
	q.former.later(left)
}

// takeOverOne takes over one journal. left means that something in it may still
// run.
func (s *supervisor) takeOverOne(q *queue, dir string) (left bool, err error) {
	j, recs, err := openJournal(dir, s.where.Boot)
	if err != nil {
		return false, err
	}
	defer j.close() //nolint:errcheck // only read from, and closed already if it is to be removed
	old := &queue{id: q.id, journal: j, attempts: map[task.Ref]*attempt{}}
	for _, r := range recs {
		s.replay(old, r)
	}
	for ref, a := range old.attempts {
		if !s.settle(a) {
			delete(old.attempts, ref)
			left = true
		}
	}
	taken, safe := s.includeEnded(q, old.attempts)
	if taken > 0 || !left {
		s.log.Info("took over the journal of an earlier boot", "queue", q.id, "dir", dir, "ends", taken, "left", left)
	}
	if left || !safe {
		return true, nil
	}
	// What was taken over has to be on the disk before its source goes.
	if err := syncFile(filepath.Join(q.journal.dir, journalName)); err != nil {
		return false, err
	}
	if err := j.close(); err != nil {
		return false, err
	}
	_, err = removeSpool(dir)
	return false, err
}

// includeEnded takes in attempts with their ends, and says how many were not
// known, and whether the journal has them.
func (s *supervisor) includeEnded(q *queue, attempts map[task.Ref]*attempt) (taken int, safe bool) {
	s.mu.Lock()
	for ref, a := range attempts {
		if !q.knows(ref) {
			a.queue = q
			q.include(a)
			q.touch(a)
			taken++
		}
	}
	s.mu.Unlock()
	s.flush(q, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	return taken, !q.journal.pending() && !q.writing && q.trouble.err == nil
}

// settle sees to it that an attempt of another journal has an end. It reports
// false if it may still run where we cannot see it.
func (s *supervisor) settle(a *attempt) bool {
	switch {
	case a.phase == ended:
		return true
	case a.oldBoot:
		a.end = s.restartedEnd()
	case heldOpen(hereLog(a.queue.journal.dir, string(a.claim.GetLogPath()))):
		return false
	default:
		a.end = vanished("ran in another pid namespace on %s, most likely a container, and nobody has its output open; its end was not seen", s.where.Name)
	}
	a.phase, a.settled, a.end.At = ended, true, int64(now())
	return true
}

// hereLog is where the output is that a journal speaks of; "" = not known. The
// path in the journal is that of another container, which may have the queue
// somewhere else. Both have what is in the queue's directory: the spool at dir,
// and what the last parts of the path name.
func hereLog(dir, path string) string {
	if path == "" {
		return ""
	}
	shard, name := filepath.Split(path)
	tasks, shard := filepath.Split(filepath.Clean(shard))
	return filepath.Join(filepath.Dir(filepath.Dir(dir)), filepath.Base(tasks), shard, name)
}

// heldOpen says whether somebody on this machine may have the file open for
// writing, in whatever container: the kernel gives a read lease on it only if
// nobody has. Where it gives none at all, the answer is yes. It is yes as well for
// a file that is not there, which only says that we do not know where it is.
func heldOpen(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return true
	}
	defer f.Close() //nolint:errcheck // only asked about; it also ends the lease
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	return err != nil
}

// syncFile brings a file to the disk, whoever wrote it.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	return nil
}
