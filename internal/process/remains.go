package process

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Remains is what a supervisor that is not ours to ask has written into a spool: that of
// a worker, which may be gone. It is only read.
type Remains struct {
	b      *Backend
	spools []*foreignSpool
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
	return &Remains{b: b}, nil
}

// Look reads it anew.
func (r *Remains) Look() {
	dirs, err := foreignSpools(r.b.opts.SpoolDir, "", nil, r.b.id)
	if err != nil {
		r.b.opts.Logger.Warn("cannot look for the journals of a worker", "dir", r.b.opts.SpoolDir, "error", err)
	}
	now := time.Now()
	for _, dir := range dirs {
		f := r.spool(dir)
		if f == nil {
			f = &foreignSpool{dir: dir, heard: now}
			r.spools = append(r.spools, f)
		}
		if err := f.look(now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.b.opts.Logger.Warn("cannot read the journal of a worker", "dir", dir, "error", err)
		}
	}
}

func (r *Remains) spool(dir string) *foreignSpool {
	for _, f := range r.spools {
		if f.dir == dir {
			return f
		}
	}
	return nil
}

// Of tells what the journals say about an attempt: all events so far, and whether it has
// begun.
func (r *Remains) Of(ref task.Ref) (changes []task.Change, begun bool) {
	for _, f := range r.spools {
		fact := f.facts[ref]
		if fact == nil || !fact.begun() {
			continue
		}
		o := f.card.origin()
		changes, _ = r.b.changes(nil, &o, fact.report(ref), toldNothing)
		return changes, true
	}
	return nil, false
}

// Lives says whether a supervisor may still write. One of this host is, as long as it has
// its journal locked; of another only its signs of life are seen.
func (r *Remains) Lives() bool {
	r.Look()
	for _, f := range r.spools {
		switch {
		case f.card.Left:
		case f.card.Boot == r.b.id.Boot:
			if host.Holder(filepath.Join(f.dir, lockFileName)) != 0 {
				return true
			}
		case f.card.Machine == r.b.id.Machine && f.card.Machine != "":
		case time.Since(f.heard) < deadAfter:
			return true
		}
	}
	return false
}
