package slurm

import (
	"errors"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// sayAgain is how often a trouble that goes on is logged once more.
const sayAgain = 10 * time.Minute

// mostSaid bounds what is remembered of that.
const mostSaid = 4096

// saidBefore remembers what was logged. A round comes four times a second, and a trouble of a file
// server or a controller lasts for hours: it is told when it comes, when it becomes another,
// and then rarely.
type saidBefore struct {
	at map[saying]time.Time
}

// saying is a trouble: what cannot be done, of which attempt, and why.
type saying struct {
	what string
	ref  task.Ref // zero = of none
	why  string
}

// due says whether a trouble is to be logged now, and remembers that it was.
func (s *saidBefore) due(now time.Time, what string, ref task.Ref, err error) bool {
	k := saying{what, ref, cause(err)}
	if last, before := s.at[k]; before && now.Sub(last) < sayAgain {
		return false
	}
	if s.at == nil || len(s.at) >= mostSaid {
		s.at = map[saying]time.Time{}
	}
	s.at[k] = now
	return true
}

// over forgets the troubles of an attempt that has ended.
func (s *saidBefore) over(ref task.Ref) {
	for k := range s.at {
		if k.ref == ref {
			delete(s.at, k)
		}
	}
}

// cause is the part of an error that stays the same when it comes again: not the names of
// temporary files in it.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}
