package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// Whoever tidies up in the wrong place removes a spool under its supervisor, which
// would go on writing to files without a name. As long as it lives it knows all
// that they held.

// restoreSpool makes the files of a queue's journal again if they were removed.
// The clerk calls it, and writes the journal next.
func (s *supervisor) restoreSpool(q *queue) {
	if !s.inUse(q) || !q.journal.removed() {
		return
	}
	err := q.journal.relock()
	if text := fmt.Sprint(err); text != q.restoring {
		q.restoring = text
		s.log.Warn("the journal of a queue was removed", "queue", q.id, "dir", q.journal.dir, "error", err)
	}
	if err != nil {
		return
	}
	s.beat(q)
	s.show(q, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	q.rewrite = true
}

// inUse says whether the journal has to hold anything.
func (s *supervisor) inUse(q *queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(q.attempts) > 0
}

// removed says whether one of the journal's files is gone.
func (j *journal) removed() bool {
	for _, name := range []string{journalName, lockFileName} {
		if _, err := os.Lstat(filepath.Join(j.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// homeOf is the folder of a queue whose spools are in one of its subfolders.
func homeOf(dir string) string { return filepath.Dir(filepath.Dir(dir)) }

// errHomeMoved says that the folder of the queue was moved away or removed. What may be
// under its name by now is another queue's, whose journal must not find ours in its place.
var errHomeMoved = errors.New("the folder of the queue is gone from its place, or another one is there")

// holdsLock says whether the lock file is still the one that we hold.
func (j *journal) holdsLock() bool {
	own, err := j.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(filepath.Join(j.dir, lockFileName))
	return err == nil && os.SameFile(there, own)
}

// relock takes the lock anew if its file is gone. Should another supervisor have
// done that, the journal is its own now, and an error says so.
func (j *journal) relock() error {
	if there, err := os.Stat(homeOf(j.dir)); err != nil || !os.SameFile(there, j.home) {
		return errHomeMoved
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return fmt.Errorf("make spool directory: %w", err)
	}
	if j.holdsLock() {
		return nil
	}
	lock, err := host.Lock(filepath.Join(j.dir, lockFileName))
	if err != nil {
		return err
	}
	old := j.lock
	j.lock = lock
	return old.Close()
}
