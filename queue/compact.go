package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Compacted is what a compaction has come to.
type Compacted struct {
	Path          string // of the database in use now
	Before, After int64  // bytes of the file
	Reserve       int64  // bytes that bbolt had made the file longer by, for what comes; most file systems have no blocks for them
	FreePages     int    // between those in use, before; there are next to none after it
	PageSize      int
}

// Compact writes the database anew without what nobody uses of it, puts that in use
// and removes the one before. The queue must have no owner. It refuses a database that
// is damaged, and one whose indexes are not true: that is for Repair.
//
// A crash at any moment leaves the database in use that was, or the new one.
func Compact(ctx context.Context, opts Options, progress Progress) (Compacted, error) {
	opts.ReadOnly = false
	q, err := hold(ctx, opts)
	if err != nil {
		return Compacted{}, err
	}
	out, err := q.compact(ctx, progress)
	return out, errors.Join(err, q.letGo(q.closeDatabase))
}

func (q *Queue) compact(ctx context.Context, progress Progress) (Compacted, error) {
	if err := q.identify(); err != nil {
		return Compacted{}, err
	}
	out, err := q.beforeCompaction()
	if err != nil {
		return out, err
	}
	shop, err := workshop(q.opts.Dir)
	if err != nil {
		return out, fmt.Errorf("make room for the new database: %w", err)
	}
	defer func() { _ = os.RemoveAll(shop) }() // the next one removes what is left
	crashIn(careCompact, "begun")
	path := filepath.Join(shop, firstGeneration)
	if err := q.rewrite(ctx, path, progress); err != nil {
		return out, fmt.Errorf("write the new database: %w", err)
	}
	crashIn(careCompact, "written")
	v, err := VerifyFile(ctx, path, q.opts, progress)
	if err != nil {
		return out, err
	}
	if !v.Sound() {
		return out, task.Errorf(task.CodeInternal, "%w; nothing was changed (dspy-agent queue verify tells all that is wrong, and queue repair mends it)",
			&DamagedFileError{Path: q.path, Reason: v.Findings[0].String()})
	}
	out.After = fileSize(path)
	name, err := q.install(path, careCompact)
	if err != nil {
		return out, q.commitFailed(err)
	}
	out.Path = filepath.Join(q.opts.Dir, name)
	return out, os.Remove(q.path)
}

// beforeCompaction tells how large the file is, and how much of it nobody uses.
func (q *Queue) beforeCompaction() (Compacted, error) {
	st := q.db.Stats()
	out := Compacted{Before: fileSize(q.path), PageSize: q.db.Info().PageSize}
	err := q.view(func(tx *bolt.Tx) error {
		out.FreePages, out.Reserve = st.FreePageN+st.PendingPageN, out.Before-tx.Size()
		return nil
	})
	return out, err
}

// identify reads what a database has to say of itself, for one that is held.
func (q *Queue) identify() error {
	return q.view(func(tx *bolt.Tx) error {
		fresh, err := q.checkVersion(tx)
		if err == nil && fresh {
			return noQueue(q.opts.Dir)
		}
		if err == nil {
			q.id, q.fence = queueID(tx), metaNumber(tx.Bucket(bucketMeta), metaFence)
		}
		return err
	})
}

// rewriteBytes is how much goes into one transaction.
const rewriteBytes = 8 << 20

// rewrite copies all records into a new file.
func (q *Queue) rewrite(ctx context.Context, path string, progress Progress) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	w := &rewriter{ctx: ctx, db: db, tell: progress, total: fileSize(q.path)}
	err = q.view(w.all)
	if w.tx != nil {
		err = errors.Join(err, w.tx.Rollback())
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return trim(path)
}

// trim cuts off what a new file has behind its last page in use, for which bbolt makes
// room in large steps, and makes the file durable.
func trim(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m, ok := readMeta(f)
	if !ok {
		return fmt.Errorf("the new database %s cannot be read", path)
	}
	if err := f.Truncate(int64(m.high) * int64(m.page)); err != nil {
		return err
	}
	return f.Sync()
}

// rewriter writes into one new file.
type rewriter struct {
	ctx         context.Context
	db          *bolt.DB
	tx          *bolt.Tx
	to          *bolt.Bucket // of that transaction; nil = it has still to be found
	size        int
	done, total int64
	tell        Progress
}

func (w *rewriter) all(src *bolt.Tx) error {
	err := src.ForEach(func(name []byte, b *bolt.Bucket) error { return w.bucket([][]byte{bytes.Clone(name)}, b) })
	if err != nil || w.tx == nil {
		return err
	}
	tx := w.tx
	w.tx = nil
	return tx.Commit()
}

// bucket copies a bucket and what is in it.
func (w *rewriter) bucket(at [][]byte, src *bolt.Bucket) error {
	w.to = nil
	to, err := w.target(at)
	if err != nil {
		return err
	}
	if err := to.SetSequence(src.Sequence()); err != nil {
		return err
	}
	c := src.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if v != nil {
			err = w.put(at, k, v)
		} else {
			err = w.below(at, src, k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *rewriter) below(at [][]byte, src *bolt.Bucket, k []byte) error {
	b := src.Bucket(k)
	if b == nil {
		panic(fileError(fmt.Sprintf("key %x of bucket %s is no bucket and has no value", k, at[0])))
	}
	w.to = nil
	defer func() { w.to = nil }()
	return w.bucket(append(slices.Clip(at), bytes.Clone(k)), b)
}

func (w *rewriter) put(at [][]byte, k, v []byte) error {
	to, err := w.target(at)
	if err != nil {
		return err
	}
	w.size += len(k) + len(v)
	w.done += int64(len(k) + len(v))
	if err := to.Put(k, v); err != nil || w.size < rewriteBytes {
		return err
	}
	w.tell.tell("writing anew", w.done, w.total)
	tx := w.tx
	w.tx, w.to, w.size = nil, nil, 0
	return errors.Join(tx.Commit(), w.ctx.Err())
}

// target returns the bucket to write to, in the transaction that is open.
func (w *rewriter) target(at [][]byte) (b *bolt.Bucket, err error) {
	if w.to != nil {
		return w.to, nil
	}
	if w.tx == nil {
		if w.tx, err = w.db.Begin(true); err != nil {
			return nil, err
		}
	}
	if b, err = w.tx.CreateBucketIfNotExists(at[0]); err != nil {
		return nil, err
	}
	for _, name := range at[1:] {
		if b, err = b.CreateBucketIfNotExists(name); err != nil {
			return nil, err
		}
	}
	b.FillPercent = 0.95
	if f, ok := fill[string(at[0])]; ok {
		b.FillPercent = f
	}
	w.to = b
	return b, nil
}
