package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// errMoved says that CURRENT names another database by now than the one of which we
// have the lock.
var errMoved = errors.New("the database in use is another one by now")

// errCopy says that the owner can only be followed with a copy of the database.
var errCopy = errors.New("the owner may still write into the database")

// newLease describes this process as the owner of a generation.
func (q *Queue) newLease(generation int) (*lease, error) {
	owner, err := thisProcess(q.opts.Role, q.opts.Now())
	if err != nil {
		return nil, err
	}
	owner.Generation, owner.Socket = generation, q.opts.Socket
	return &lease{
		dir: q.opts.Dir, local: q.mount.Local(), terms: q.opts.terms, clock: q.opts.clock, logger: q.opts.Logger,
		id: owner.Lease, owner: owner, deposition: deposition{done: make(chan struct{})},
	}, nil
}

// acquire gets the lease, with the lock of the database in hand, or says who has it.
func (q *Queue) acquire(ctx context.Context) error {
	if q.opts.ReadOnly {
		return q.mayRead()
	}
	if q.lease != nil {
		return nil
	}
	l, err := q.newLease(generationOf(filepath.Base(q.path)))
	if err != nil {
		return err
	}
	patience := time.NewTimer(q.opts.LockTimeout)
	defer patience.Stop()
	for {
		err := q.tryAcquire(ctx, l)
		if !errors.Is(err, ErrLocked) && !errors.Is(err, errTaken) {
			if err == nil {
				q.lease = l
				err = q.stillCurrent()
			}
			return err
		}
		select {
		case <-time.After(lockRetry):
		case <-patience.C:
			if errors.Is(err, errTaken) {
				err = q.locked()
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mayRead refuses a database of which the owner may be alive, where the lock of a
// reader proves nothing: what is read while it is written looks like damage.
func (q *Queue) mayRead() error {
	if q.apart || q.mount.Local() {
		return nil
	}
	line, err := succession(q.opts.Dir)
	if err != nil {
		return err
	}
	worst, v, err := q.judgeAll(line)
	if err == nil && v >= unproven {
		err = &LockedError{Dir: q.opts.Dir, Owner: worst}
	}
	return err
}

// stillCurrent gives the lease back where a former owner moved CURRENT before it
// left.
func (q *Queue) stillCurrent() error {
	name, err := readCurrent(q.opts.Dir)
	if err == nil && name != filepath.Base(q.path) {
		err = errMoved
	}
	if err != nil {
		q.lease.release()
		q.lease = nil
	}
	return err
}

// tryAcquire tries once.
func (q *Queue) tryAcquire(ctx context.Context, l *lease) error {
	line, err := succession(l.dir)
	if err != nil {
		return err
	}
	if err := q.mayFollow(ctx, line); err != nil {
		return err
	}
	return l.take(line)
}

// take makes us the owner: the successor of the last of the line, or the first.
func (l *lease) take(line []seat) error {
	now, boot := l.clock(), bootTime()
	path, err := l.write()
	if err != nil {
		return err
	}
	if err := errors.Join(l.place(path, line), removeIfThere(path)); err != nil {
		return err
	}
	failpoint.Here("lease/placed")
	if err := l.seeNamed(); err != nil {
		l.release() // it may name us, who are not going to be the owner
		return err
	}
	l.sweepClaims()
	failpoint.Here("lease/swept")
	if err := l.startBeating(); err != nil {
		l.release()
		return err
	}
	failpoint.Here("lease/beating")
	l.seen.Store(&now)
	l.until.Store(boot + int64(l.terms.confirm))
	return nil
}

// seeNamed makes sure that owner.json is ours: a server may have answered one thing and
// done another.
func (l *lease) seeNamed() error {
	if err := l.syncDir(); err != nil {
		return err
	}
	l.noteNamed()
	if s, err := readSeat(filepath.Join(l.dir, OwnerFile)); err != nil || s.key != l.id {
		return errors.Join(errTaken, err)
	}
	return nil
}

// place makes the file at path owner.json.
func (l *lease) place(path string, line []seat) error {
	if len(line) == 0 {
		err := l.link(path, OwnerFile)
		failpoint.Here("lease/linked")
		return err
	}
	for _, s := range line {
		if s.owner != nil {
			l.before = max(l.before, s.owner.Fence)
		}
	}
	if err := l.claim(path, line[len(line)-1]); err != nil {
		return err
	}
	failpoint.Here("lease/claimed")
	err := os.Rename(path, filepath.Join(l.dir, OwnerFile))
	if err != nil {
		return errors.Join(err, os.Remove(filepath.Join(l.dir, claimFile(line[len(line)-1].key))))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// mayFollow returns nil when all of the line are dead, for certain. errCopy means that
// a copy of the database has to be made, and ErrLocked that one may be alive. It is
// not enough that the last is dead: that one may have died before it had followed the
// one before it, who then goes on as if nothing had been.
func (q *Queue) mayFollow(ctx context.Context, line []seat) error {
	o, v, err := q.judgeAll(line)
	if err != nil {
		return err
	}
	switch {
	case v == dead:
		return nil
	case v == deadIfSilent:
		return q.awaitSilence(ctx, o, 0)
	case v == replaceableIfSilent, v == unproven && q.opts.TakeOver:
		return errCopy
	default:
		return &LockedError{Dir: q.opts.Dir, Owner: o}
	}
}

// judgeAll returns who of the line is most in the way, and what is known of them.
// Nobody is in the way of the first.
func (q *Queue) judgeAll(line []seat) (worst *Owner, known verdict, err error) {
	known = dead
	for i, s := range line {
		v, err := q.judge(s.owner)
		if err != nil {
			return nil, v, err
		}
		if i == 0 || v > known {
			worst, known = s.owner, v
		}
	}
	return worst, known, nil
}

func (q *Queue) judge(o *Owner) (verdict, error) {
	here, err := host.This()
	if err != nil {
		return unproven, err
	}
	w := witness{here: here, mount: q.mount, generation: generationOf(filepath.Base(q.path)), runs: host.Process.Runs}
	return w.judge(o), nil
}

// awaitSilence returns nil when nothing was heard of the owner for as long as it
// takes. Time passes here alone: no two hosts have the same. after is how long the
// opening waits when that is over.
func (q *Queue) awaitSilence(ctx context.Context, o *Owner, after time.Duration) error {
	q.opts.Logger.Info("looking whether the former owner of the queue is alive", "owner", o, "for", q.opts.terms.watch)
	begun, lasts := time.Now(), q.opts.terms.watch+after
	q.tellWatch(o, lasts)
	first, err := readBeat(q.opts.Dir)
	if err != nil {
		return fmt.Errorf("look for a sign of life of the owner: %w", err)
	}
	tick := time.NewTicker(q.opts.terms.beat)
	defer tick.Stop()
	end := time.NewTimer(q.opts.terms.watch)
	defer end.Stop()
	for last := false; !last; {
		select {
		case <-tick.C:
			q.tellWatch(o, lasts-time.Since(begun))
		case <-end.C:
			last = true
		case <-ctx.Done():
			return ctx.Err()
		}
		switch now, err := readBeat(q.opts.Dir); {
		case err != nil:
			return fmt.Errorf("look for a sign of life of the owner: %w", err)
		case now != first:
			return &LockedError{Dir: q.opts.Dir, Owner: o, Alive: true}
		}
	}
	return nil
}

// tellWatch says that the opening goes on looking for o, or waiting for it to give up.
func (q *Queue) tellWatch(o *Owner, left time.Duration) {
	if q.opts.OnWatch != nil {
		q.opts.OnWatch(o, max(left, 0))
	}
}
