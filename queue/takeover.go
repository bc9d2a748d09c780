package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A take-over follows an owner that cannot be shown to be dead, but has been silent
// for long. It may be frozen, and go on at any moment with what it was doing, in the
// middle of a commit. So:
//
//  1. Its heartbeat is watched for terms.watch. A sign of life ends it all.
//  2. owner.json is made ours. From now on the former owner finds itself deposed
//     when it looks, and it looks before and after each commit, unless it did so
//     within terms.confirm.
//  3. terms.grace later it believes nothing any more that it saw before step 2.
//     What it has answered to anybody is in the database by now, and it will
//     answer nothing more.
//  4. The database is copied, read from end to end, given a higher fence, and only
//     then the name of the next generation. Then CURRENT is moved. What the former owner still
//     writes goes into a file that nobody reads; it is kept.
//
// A crash before CURRENT is moved leaves the former generation in use.

// The places where a crash test can die in the middle of it.
var _ = failpoint.Declare("takeover/silent", "takeover/placed", "takeover/waited", "takeover/copied", "takeover/checked", "takeover/fenced", "takeover/moved")

// mustTakeOver says whether the database can be opened in no other way.
func (q *Queue) mustTakeOver(err error) bool {
	return errors.Is(err, errCopy) || q.opts.TakeOver && !q.opts.ReadOnly && errors.Is(err, berrors.ErrTimeout)
}

// takeOver opens a copy of the database in the place of its owner.
func (q *Queue) takeOver(ctx context.Context) error {
	former, err := q.replaceOwner(ctx)
	if err != nil {
		return err
	}
	failpoint.Here("takeover/placed")
	if err := q.awaitGrace(ctx, former); err != nil {
		return err
	}
	failpoint.Here("takeover/waited")
	name, err := readCurrent(q.opts.Dir)
	if err != nil {
		return err
	}
	from := filepath.Join(q.opts.Dir, name)
	q.path = from
	if err := q.nameCurrent(from); err != nil {
		return err
	}
	if q.unnamed, err = copyAside(ctx, from); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	failpoint.Here("takeover/copied")
	q.path = q.unnamed
	if err := q.openCopy(ctx, from); err != nil {
		return errors.Join(err, q.dropCopy())
	}
	failpoint.Here("takeover/checked")
	q.opts.Logger.Warn("the queue was taken over; the former database is kept", "former", from, "copy", q.path)
	return nil
}

// copyAside copies a database to a name that no database has: until it is put in use it
// must not be taken for one that was.
func copyAside(ctx context.Context, from string) (path string, err error) {
	f, err := os.CreateTemp(filepath.Dir(from), tempPattern(copyFile))
	if err != nil {
		return "", err
	}
	if err = f.Close(); err == nil {
		err = copyDatabase(ctx, from, f.Name())
	}
	if err != nil {
		return "", errors.Join(err, removeIfThere(f.Name()))
	}
	return f.Name(), nil
}

// dropCopy removes a copy that was not put in use.
func (q *Queue) dropCopy() error {
	if q.unnamed == "" {
		return nil
	}
	return removeIfThere(q.unnamed)
}

// putInUse makes our database the one in use; a copy gets the name of a database just
// before, and loses it again if the queue is another's by now.
func (q *Queue) putInUse() error {
	if q.unnamed == "" {
		return q.lease.putInUse(filepath.Base(q.path))
	}
	if err := q.lease.look(); err != nil {
		return err
	}
	path := filepath.Join(q.opts.Dir, generationName(q.lease.owner.Generation))
	if err := giveName(q.unnamed, path); err != nil {
		return err
	}
	if err := errors.Join(removeIfThere(q.unnamed), syncDir(q.opts.Dir)); err != nil {
		return err
	}
	q.path, q.unnamed = path, ""
	err := q.lease.putInUse(filepath.Base(path))
	if errors.Is(err, ErrDeposed) {
		err = errors.Join(err, removeIfThere(path))
	}
	return err
}

// replaceOwner takes the place of a silent owner, and returns who that was.
func (q *Queue) replaceOwner(ctx context.Context) (former *Owner, err error) {
	line, err := succession(q.opts.Dir)
	if err != nil {
		return nil, err
	}
	if pid := host.Holder(q.path); len(line) == 0 || pid != 0 {
		return nil, q.locked() // it is under this kernel, and can be stopped here
	}
	worst, v, err := q.judgeAll(line)
	if err != nil {
		return nil, err
	}
	if v == running {
		return nil, &LockedError{Dir: q.opts.Dir, Owner: worst}
	}
	if err := q.awaitSilence(ctx, worst, q.opts.terms.grace); err != nil {
		return nil, err
	}
	failpoint.Here("takeover/silent")
	next, err := unusedGeneration(q.opts.Dir)
	if err != nil {
		return nil, err
	}
	for _, s := range line {
		if s.owner != nil { // one that was frozen before it began to copy may do so yet
			next = max(next, s.owner.Generation+1)
		}
	}
	l, err := q.newLease(next)
	if err != nil {
		return nil, err
	}
	if err := l.take(line); err != nil {
		if errors.Is(err, errTaken) {
			return nil, q.locked()
		}
		return nil, err
	}
	q.lease = l
	return worst, nil
}

// awaitGrace waits until the former owner believes in its lease no more. One that was
// frozen while it wrote its name has seen that until the name was ours again, from
// when on it is waited once more.
func (q *Queue) awaitGrace(ctx context.Context, former *Owner) error {
	end := time.Now().Add(q.opts.terms.grace)
	t := time.NewTimer(q.opts.terms.grace)
	defer t.Stop()
	tick := time.NewTicker(q.opts.terms.beat / 2) // it begins between two beats
	defer tick.Stop()
	for {
		q.tellWatch(former, time.Until(end))
		select {
		case <-t.C:
		case <-tick.C:
			continue
		case <-q.Deposed():
			return q.lease.err()
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := q.lease.look(); err != nil {
			return err
		}
		left := q.opts.terms.grace - q.lease.namedFor()
		if left <= 0 {
			return nil
		}
		t.Reset(left)
		end = time.Now().Add(left)
	}
}

// copyTries is how often a copy is begun anew because somebody wrote meanwhile. The
// owner that was deposed finishes one commit at most.
const copyTries = 5

// errUnsteady says that a database is being written.
var errUnsteady = errors.New("somebody is writing into it")

// copyDatabase copies a database of which we have no lock. What can be reached from
// one meta page is written over at the earliest by the commit after the next. So a
// copy is whole if, when it is made, the meta page is still the newest.
func copyDatabase(ctx context.Context, from, to string) error {
	for range copyTries {
		err := copyOnce(ctx, from, to)
		if !errors.Is(err, errUnsteady) {
			return err
		}
	}
	return errUnsteady
}

func copyOnce(ctx context.Context, from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	before, ok := readMeta(src)
	if !ok {
		return fileError("neither of the two pages that it begins with is whole, or it is not a queue database")
	}
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := copyBytes(ctx, dst, src, int64(before.high)*int64(before.page)); err != nil {
		return err
	}
	if after, ok := readMetaAnew(from); !ok || after != before {
		return errUnsteady
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// readMetaAnew opens the file for it: a client of a file server asks what has changed when
// a file is opened, and may answer from memory as long as it is open.
func readMetaAnew(path string) (m meta, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return m, false
	}
	defer func() { _ = f.Close() }() // it was only read
	return readMeta(f)
}

// copyBytes copies n bytes, a few at a time so that it can be ended.
func copyBytes(ctx context.Context, dst io.Writer, src io.Reader, n int64) error {
	const piece = 8 << 20
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := io.CopyN(dst, src, min(n, piece))
		if errors.Is(err, io.EOF) {
			return fileError("it is shorter than it says")
		}
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// openCopy opens the copy, and reads all of it.
func (q *Queue) openCopy(ctx context.Context, from string) error {
	q.opts.wholeBytes = 1 << 62
	if err := q.openBolt(ctx); err != nil {
		return q.openFailed(err)
	}
	err := q.view(func(tx *bolt.Tx) error {
		_, err := q.checkVersion(tx)
		return err
	})
	if err == nil {
		err = q.Check(ctx)
	}
	if err == nil || errors.Is(err, task.ErrDamaged) && !errors.Is(err, ErrInconsistent) {
		return nil // a record that cannot be read stops its own task, and nothing else
	}
	if errors.Is(err, ErrInconsistent) {
		err = task.Errorf(task.CodeInternal, "the queue was not taken over: %s is damaged, and is left as it is: %w", from, err)
	}
	return errors.Join(err, q.closeDatabase())
}
