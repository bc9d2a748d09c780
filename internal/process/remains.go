package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// Remains is what a supervisor that is not ours to ask has written into a spool: that of
// a worker, which may be gone. It is only read.
type Remains struct {
	b      *Backend
	spools []*foreignSpool
	fresh  bool // the last look was the first of all, or of some spool, or there was none yet
	whole  bool // the last look showed all that was written
	looked bool
}

// deadAfter is for how long a supervisor on another host shows no sign of life until it
// counts as dead, where it is known that it should be.
const deadAfter = 40 * time.Second

// NewRemains opens what is below o.SpoolDir.
func NewRemains(o Options) (*Remains, error) {
	b, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Remains{b: b, fresh: true}, nil
}

// Look reads it anew. An error says that some of it could not be read now; what was known
// of that stays known.
func (r *Remains) Look() error {
	r.whole = false
	there, err := isDir(r.b.opts.SpoolDir)
	if err != nil {
		return fmt.Errorf("look for the journals of a worker: %w", err)
	}
	dirs, err := foreignSpools(r.b.opts.SpoolDir, "", nil, r.b.id)
	if err != nil {
		return err
	}
	now := time.Now()
	whole, fresh := there, !r.looked
	var failed []error
	for _, dir := range dirs {
		f := r.spool(dir)
		if f == nil {
			f, fresh = &foreignSpool{dir: dir, heard: now}, true
			r.spools = append(r.spools, f)
		}
		switch err := f.look(now); {
		case errors.Is(err, fs.ErrNotExist): // it has written nothing, or that was removed
			whole = whole && f.card == (card{}) && f.facts == nil
		case err != nil:
			failed = append(failed, fmt.Errorf("read the journal in %s: %w", dir, err))
		default:
			whole = whole && f.complete
		}
	}
	r.looked, r.fresh, r.whole = true, fresh, whole && len(failed) == 0
	return errors.Join(failed...)
}

// isDir says whether a folder is there.
func isDir(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Whole says whether the last look showed all that was ever written, so that what is not
// in it has not begun. It is not so where a journal is damaged, or was removed.
func (r *Remains) Whole() bool { return r.whole }

func (r *Remains) spool(dir string) *foreignSpool {
	for _, f := range r.spools {
		if f.dir == dir {
			return f
		}
	}
	return nil
}

// Of tells what the journals say about an attempt: all events so far, and whether it has
// begun. An error says that it has ended, and that its result cannot be read now; for how
// long that is borne is decided here.
func (r *Remains) Of(ref task.Ref) (changes []task.Change, begun bool, err error) {
	for _, f := range r.spools {
		fact := f.facts[ref]
		if fact == nil || !fact.begun() {
			continue
		}
		o := f.card.origin()
		changes, told := r.b.changes(nil, &o, fact.report(ref), toldNothing)
		if fact.end != nil && told != toldEnd {
			err = fmt.Errorf("attempt %d of task %d has ended: %w", ref.Attempt, ref.Seq, taskfiles.ErrUnread)
		}
		return changes, true, err
	}
	return nil, false, nil
}

// Lives says whether a supervisor may still write, of those that the last look showed:
// look before, and again after. One of this host may, as long as it has its journal locked;
// of another only its signs of life are seen. One that was not known before is given the
// time until the next look.
func (r *Remains) Lives() bool {
	return r.fresh || slices.ContainsFunc(r.spools, r.lives)
}

func (r *Remains) lives(f *foreignSpool) bool {
	switch {
	case f.card.Left:
		return false
	case f.card.Boot == r.b.id.Boot:
		return host.Holder(filepath.Join(f.dir, lockFileName)) != 0
	case f.card.Machine == r.b.id.Machine && f.card.Machine != "" && f.card.Host == r.b.id.Name:
		return false // an earlier boot of this host; a twin made from the same image has another name
	default:
		return time.Since(f.heard) < deadAfter
	}
}
