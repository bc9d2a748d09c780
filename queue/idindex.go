package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The id index answers which task has an id. Ids come from users, in any order,
// and in a B+tree each random key dirties a leaf of its own: with 200,000 of
// them a commit of 64 submissions writes four times as many pages, and
// submitting is four times slower. So the index is a small log-structured one:
//
//   - The newest ids are in memory (recentIDs). Nothing is written for them: at
//     opening they are read back from the newest spec records.
//   - When there are maxRecent of them they are written as a run: an immutable,
//     sorted list of (hash, seq) pairs in one value.
//   - fanOut runs of a level are merged into one of the next, within the
//     transaction that brings the last of them.
//
// What the index says is a hint: the hash is 64 bits, so whoever looks up
// compares the id in the task's record or tombstone, and goes on if it differs.
//
//	ids   level(1) run(8) / "r"   pairs of hash(8) seq(8), sorted
//
// Each run has a bucket of its own: next to one another in a leaf, adding a
// small run would rewrite the large ones beside it. The sequence of the bucket
// is the highest seq that is in a run.
//
// See docs/adr/0004-id-index.md for the measurements.
const (
	maxRecent = 4096
	fanOut    = 4
)

// idHash is the part of an id's hash that the index keeps. It is on disk, and
// must never change.
type idHash uint64

func hashID(id string) idHash {
	sum := sha256.Sum256([]byte(id))
	return idHash(binary.BigEndian.Uint64(sum[:]))
}

// recentIDs are ids that are in no run yet. Two ids with one hash differ in nth.
type recentIDs map[recentID]task.Seq

type recentID struct {
	hash idHash
	nth  uint8
}

func (r recentIDs) add(h idHash, seq task.Seq) {
	k := recentID{hash: h}
	for {
		if _, used := r[k]; !used {
			r[k] = seq
			return
		}
		k.nth++
	}
}

func (r recentIDs) addAll(others recentIDs) {
	for k, seq := range others {
		r.add(k.hash, seq)
	}
}

func (r recentIDs) find(h idHash) iter.Seq[task.Seq] {
	return func(yield func(task.Seq) bool) {
		for k := (recentID{hash: h}); ; k.nth++ {
			seq, ok := r[k]
			if !ok || !yield(seq) {
				return
			}
		}
	}
}

// load reads the ids of the tasks that are in no run from their records, or
// from the tombstones of those that retention has removed since. Where one cannot
// be read, which damaged has taken note of, the event log is asked: an id that was
// accepted once must not be accepted again.
func (r recentIDs) load(tx *bolt.Tx, damaged func(task.Seq, error) bool) error {
	lost := map[task.Seq]string{}
	from := task.Seq(tx.Bucket(bucketIDs).Sequence()) + 1
	for _, src := range []struct {
		bucket []byte
		id     func(k, v []byte) (string, error)
	}{{bucketSpecs, specID}, {bucketTombs, tombID}} {
		c := tx.Bucket(src.bucket).Cursor()
		for k, v := c.Seek(seqKey(from)); k != nil; k, v = c.Next() {
			id, err := src.id(k, v)
			if damaged(keySeq(k), err) {
				lost[keySeq(k)] = ""
				continue
			}
			if err != nil {
				return err
			}
			r.add(hashID(id), keySeq(k))
		}
	}
	findSubmitted(tx, lost)
	for seq, id := range lost {
		if id != "" {
			r.add(hashID(id), seq)
		}
	}
	return nil
}

// flushIDs turns the recent ids into a run when there are enough of them.
func (b *batch) flushIDs() error {
	recent := b.q.mem.recent
	if len(recent) < maxRecent {
		return nil
	}
	ids := b.bucket(bucketIDs)
	if err := addRun(b.tx, ids, 0, newIDRun(recent)); err != nil {
		return fmt.Errorf("write ids: %w", err)
	}
	if err := ids.SetSequence(uint64(b.lastSeq)); err != nil {
		return fmt.Errorf("write ids: %w", err)
	}
	b.idsFlushed = true
	return nil
}

// candidates yields the tasks that may have the id, the likely first.
func (b *batch) candidates(h idHash) iter.Seq[task.Seq] {
	return func(yield func(task.Seq) bool) {
		sources := []recentIDs{b.newIDs, b.q.mem.recent}
		if b.idsFlushed {
			sources = sources[:1]
		}
		for _, r := range sources {
			for seq := range r.find(h) {
				if !yield(seq) {
					return
				}
			}
		}
		if !b.runsRead {
			b.runs, b.runsRead = readRuns(b.tx), true
		}
		findInRuns(b.runs, h, yield)
	}
}

func findInRuns(runs []idRun, h idHash, yield func(task.Seq) bool) {
	for _, r := range runs {
		for seq := range r.find(h) {
			if !yield(seq) {
				return
			}
		}
	}
}

// holder is who has an id: a task, or the tombstone of one.
type holder struct {
	seq  task.Seq
	tomb *task.Final
}

// verifyID returns the first candidate that really has the id; seq 0 = none.
func verifyID(tx *bolt.Tx, id string, candidates iter.Seq[task.Seq]) (holder, error) {
	specs, tombs := tx.Bucket(bucketSpecs), tx.Bucket(bucketTombs)
	for seq := range candidates {
		k := seqKey(seq)
		if v := specs.Get(k); v != nil {
			if got, err := specID(k, v); err != nil || got == id {
				return holder{seq: seq}, err
			}
		} else if v := tombs.Get(k); v != nil {
			f, err := readFinal(k, v)
			if err != nil || f.ID == id {
				return holder{seq: seq, tomb: &f}, err
			}
		}
	}
	return holder{}, nil
}

// findID looks an id up for a reader. The recent ids are looked at before the
// transaction begins: what leaves them meanwhile is in a run that it sees.
func (q *Queue) findID(id string) (h holder, err error) {
	hash := hashID(id)
	var recent []task.Seq
	q.mem.mu.RLock()
	for seq := range q.mem.recent.find(hash) {
		recent = append(recent, seq)
	}
	q.mem.mu.RUnlock()
	err = q.view(func(tx *bolt.Tx) error {
		h, err = verifyID(tx, id, func(yield func(task.Seq) bool) {
			for _, seq := range recent {
				if !yield(seq) {
					return
				}
			}
			findInRuns(readRuns(tx), hash, yield)
		})
		return err
	})
	return h, err
}
