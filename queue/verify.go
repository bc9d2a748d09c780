package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Verified is what is known of a database that was looked at.
type Verified struct {
	Holdings
	Path      string // of the database
	Bytes     int64
	Reserve   int64 // of these: behind the last page, where bbolt has made room for what comes
	FreePages int
	PageSize  int
	Findings  []Finding // nothing is wrong where there are none
	Unused    []string  // other databases in the folder
}

// maxVerified bounds how many disagreements of indexes are told. They are all mended
// in the same way.
const maxVerified = 1000

// Verify looks at all of the database in use, and changes nothing: at every page, at
// the checksum of every record, at every index against the records, at the event log
// and the counters. It needs the queue to have no owner: one that commits changes
// pages while they are looked at. See docs/adr/0015-backup-of-a-running-queue.md.
func Verify(ctx context.Context, opts Options, progress Progress) (Verified, error) {
	opts.ReadOnly = true
	q, err := holdFile(ctx, opts)
	if err != nil {
		return Verified{}, err
	}
	v, err := q.verify(ctx, progress)
	if err == nil {
		v.Unused, err = unusedGenerations(opts.Dir, q.path)
	}
	return v, errors.Join(err, q.file.Close())
}

// VerifyFile is Verify for a database that is nobody's, such as a backup.
func VerifyFile(ctx context.Context, path string, opts Options, progress Progress) (Verified, error) {
	opts.Dir, opts.ReadOnly = filepath.Dir(path), true
	q := newQueue(opts)
	q.path = path
	if err := q.lockFile(ctx); err != nil {
		return Verified{}, fmt.Errorf("open %s: %w", path, err)
	}
	v, err := q.verify(ctx, progress)
	return v, errors.Join(err, q.file.Close())
}

func unusedGenerations(dir, used string) ([]string, error) {
	all, err := generations(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range all {
		if name != filepath.Base(used) {
			out = append(out, filepath.Join(dir, name))
		}
	}
	return out, nil
}

// verify looks at the file, which is locked.
func (q *Queue) verify(ctx context.Context, progress Progress) (Verified, error) {
	v := Verified{Path: q.path}
	info, err := q.file.Stat()
	if err != nil {
		return v, err
	}
	v.Bytes = info.Size()
	progress.tell("looking at the pages", 0, v.Bytes)
	broken, err := q.verifyPages(&v)
	if err != nil {
		return v, err
	}
	if !broken {
		if broken, err = q.verifyIndexes(ctx, &v, progress); err != nil {
			return v, err
		}
	}
	err = q.withSalvaged(ctx, q.file, progress, func(s *salvaged) error {
		r := newRescuer(s, task.At(q.opts.Now()), "")
		if err := r.look(); err != nil {
			if errors.Is(err, ErrNothingLeft) {
				v.Findings = append(v.Findings, Finding{Kind: FoundFile, Text: err.Error()})
				return nil
			}
			return err
		}
		if broken || v.QueueID == "" {
			v.Holdings = r.holdings()
		}
		v.Findings = append(v.Findings, r.findings...)
		v.name(s)
		return nil
	})
	v.Findings = byKind(v.Findings)
	return v, err
}

// name fills in the ids of tasks.
func (v *Verified) name(s *salvaged) {
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Seq == 0 || f.Last != 0 || f.Above || f.ID != "" {
			continue
		}
		k := seqKey(f.Seq)
		if rec := s.pile(bucketSpecs).get(k); rec != nil {
			f.ID, _ = specID(k, rec)
		} else if rec := s.pile(bucketTombs).get(k); rec != nil {
			f.ID, _ = tombID(k, rec)
		}
	}
}

// verifyPages says whether the pages are damaged, so that bbolt must not have them.
func (q *Queue) verifyPages(v *Verified) (broken bool, err error) {
	err = q.guard(func() error { return inspect(q.file, math.MaxInt64) })
	if bad, ok := errors.AsType[fileError](err); ok {
		v.Findings = append(v.Findings, Finding{Kind: FoundFile, Text: string(bad)})
		return true, nil
	}
	if bad, ok := errors.AsType[*DamagedFileError](err); ok {
		v.Findings = append(v.Findings, Finding{Kind: FoundFile, Text: bad.Reason})
		return true, nil
	}
	return v.Bytes == 0, err
}

// verifyIndexes compares the indexes with the records.
func (q *Queue) verifyIndexes(ctx context.Context, v *Verified, progress Progress) (broken bool, err error) {
	o, err := openAt(ctx, q.path, q.opts)
	if err != nil {
		return q.verifyFailed(v, err)
	}
	defer func() { err = errors.Join(err, o.closeDatabase()) }()
	progress.tell("comparing records and indexes", 0, 0)
	err = o.view(func(tx *bolt.Tx) error {
		o.known, v.Reserve = true, max(v.Bytes-tx.Size(), 0)
		if _, err := o.checkVersion(tx); err != nil {
			return err
		}
		for _, err := range checkRecords(ctx, tx, maxVerified) {
			if !v.index(err) {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = o.checkPages()
	}
	if err == nil {
		var h Holdings
		if h, err = o.holdings(); errors.Is(err, task.ErrDamaged) {
			return false, nil // counted by what was salvaged
		}
		v.Holdings = h
		st := o.db.Stats() // known since the pages were counted
		v.FreePages, v.PageSize = st.FreePageN+st.PendingPageN, o.db.Info().PageSize
	}
	if err != nil {
		return q.verifyFailed(v, err)
	}
	return false, nil
}

// index notes what an index has wrong. Records that are damaged are told of by what
// could be salvaged, which knows whose they are.
func (v *Verified) index(err error) bool {
	if e, ok := errors.AsType[*inconsistency](err); ok {
		v.Findings = append(v.Findings, Finding{Kind: FoundIndex, Seq: e.seq, Text: e.text})
		return true
	}
	c, ok := errors.AsType[*CorruptError](err)
	if ok && (c.Bucket == string(bucketCounters) || c.Bucket == string(bucketShapes)) {
		v.Findings = append(v.Findings, Finding{Kind: FoundIndex, Text: c.Error()})
	}
	return ok
}

// verifyFailed tells damage, which is an answer, from a failure.
func (q *Queue) verifyFailed(v *Verified, err error) (broken bool, failed error) {
	var reason string
	if bad, ok := errors.AsType[*DamagedFileError](err); ok {
		reason = bad.Reason
	} else if bad, ok := errors.AsType[fileError](err); ok {
		reason = string(bad)
	} else if pages, ok := errors.AsType[*pagesError](err); ok {
		reason = pages.reason()
	} else if e, ok := errors.AsType[*inconsistency](err); ok {
		reason = e.text
	} else if headless(err) != "" {
		return true, nil // what can be salvaged tells of it
	}
	if reason == "" {
		return false, q.openFailed(err)
	}
	v.Findings = append(v.Findings, Finding{Kind: FoundFile, Text: reason})
	return true, nil
}

// Sound says whether nothing is wrong.
func (v Verified) Sound() bool { return len(v.Findings) == 0 }

// fileSize returns 0 for a file that is not there.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
