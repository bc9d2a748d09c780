package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// rebuiltFile is the mark that a restoration or a repair leaves: tasks may be missing
// that the queue had accepted, and that have run. Who finds their papers elsewhere, as
// the drop folder does, must not take them for new ones. It is there before the new
// database is in use; one that was left by an attempt that was cut short names another
// queue or, of a repair, one of which every task is known.
const rebuiltFile = "REBUILT"

// rebuilt is what the mark says.
type rebuilt struct {
	QueueID string    `json:"queue_id"`
	By      string    `json:"by"` // what made it, for people
	At      time.Time `json:"at"`
}

func markRebuilt(dir, id, by string, at time.Time) error {
	b, err := json.Marshal(rebuilt{QueueID: id, By: by, At: at.UTC()})
	if err != nil {
		return fmt.Errorf("mark that the queue was made anew: %w", err)
	}
	return writeFileAtomic(filepath.Join(dir, rebuiltFile), append(b, '\n'))
}

// Rebuilt says whether the queue was restored or repaired, and ForgetRebuilt was not
// called since.
func (q *Queue) Rebuilt() (bool, error) {
	b, err := os.ReadFile(filepath.Join(q.opts.Dir, rebuiltFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the queue was restored: %w", err)
	}
	var r rebuilt
	if json.Unmarshal(b, &r) != nil {
		return true, nil // no way to tell that it is of another
	}
	return r.QueueID == q.id, nil
}

// ForgetRebuilt removes the mark: whatever was about from before has been gone through.
func (q *Queue) ForgetRebuilt() error {
	if err := removeIfThere(filepath.Join(q.opts.Dir, rebuiltFile)); err != nil {
		return fmt.Errorf("remove the mark that the queue was restored: %w", err)
	}
	return syncDir(q.opts.Dir)
}
