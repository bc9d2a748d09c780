package queue

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// idRun is a sorted list of (hash, seq) pairs. Read from the database it is the
// mapped file itself, valid until the transaction ends.
type idRun []byte

const idPair = 16

var runValue = []byte("r")

func newIDRun(ids recentIDs) idRun {
	type pair struct {
		hash idHash
		seq  task.Seq
	}
	pairs := make([]pair, 0, len(ids))
	for k, seq := range ids {
		pairs = append(pairs, pair{k.hash, seq})
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.seq, b.seq))
	})
	run := make(idRun, 0, len(pairs)*idPair)
	for _, p := range pairs {
		run = binary.BigEndian.AppendUint64(run, uint64(p.hash))
		run = binary.BigEndian.AppendUint64(run, uint64(p.seq))
	}
	return run
}

func (r idRun) len() int          { return len(r) / idPair }
func (r idRun) hash(i int) uint64 { return binary.BigEndian.Uint64(r[i*idPair:]) }
func (r idRun) seq(i int) task.Seq {
	return task.Seq(binary.BigEndian.Uint64(r[i*idPair+8:]))
}

// find yields the tasks whose id has the hash.
func (r idRun) find(h idHash) iter.Seq[task.Seq] {
	return func(yield func(task.Seq) bool) {
		for i := r.search(uint64(h)); i < r.len() && r.hash(i) == uint64(h); i++ {
			if !yield(r.seq(i)) {
				return
			}
		}
	}
}

// search returns the first position with a hash not below h. Hashes are spread
// evenly, so the position can be guessed from the value: three or four guesses
// find it among a million, each a cache miss at most, where halving needs
// twenty. After guesses that did not help it halves, so that no input is slow.
func (r idRun) search(h uint64) int {
	lo, hi := 0, r.len() // the answer is in lo..hi
	loHash, hiHash := uint64(0), ^uint64(0)
	for guesses := 0; lo < hi; guesses++ {
		mid := lo + (hi-lo)/2
		if guesses < 6 && hi-lo > 8 {
			mid = lo + interpolate(h-loHash, hiHash-loHash, hi-lo)
		}
		switch v := r.hash(mid); {
		case v < h:
			lo, loHash = mid+1, v
		default:
			hi, hiHash = mid, v
		}
	}
	return lo
}

// interpolate returns n*part/whole, below n.
func interpolate(part, whole uint64, n int) int {
	if part >= whole {
		return n - 1
	}
	hi, lo := bits.Mul64(part, uint64(n))
	q, _ := bits.Div64(hi, lo, whole) // hi < whole, because part*n/whole < n < 2^63
	return min(int(q), n-1)
}

// readRuns returns all runs, those with the newest ids first.
func readRuns(tx *bolt.Tx) []idRun {
	ids := tx.Bucket(bucketIDs)
	var levels [][]idRun
	c := ids.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		level := runLevel(k)
		for len(levels) <= int(level) {
			levels = append(levels, nil)
		}
		levels[level] = append(levels[level], getRun(ids, k))
	}
	var runs []idRun
	for _, level := range levels {
		slices.Reverse(level)
		runs = append(runs, level...)
	}
	return runs
}

// addRun puts a run on a level, or, if the level is full, merges all of it into
// a run of the next.
func addRun(tx *bolt.Tx, ids *bolt.Bucket, level byte, run idRun) error {
	var keys [][]byte
	c := ids.Cursor()
	for k, _ := c.Seek([]byte{level}); k != nil && runLevel(k) == level; k, _ = c.Next() {
		keys = append(keys, slices.Clone(k))
	}
	if len(keys) < fanOut-1 {
		var last uint64
		if len(keys) > 0 {
			last = binary.BigEndian.Uint64(keys[len(keys)-1][1:])
		}
		return putRun(ids, binary.BigEndian.AppendUint64([]byte{level}, last+1), run)
	}
	merge := []idRun{run}
	for _, k := range keys {
		merge = append(merge, getRun(ids, k))
	}
	merged := mergeRuns(merge, oldestKnown(tx))
	for _, k := range keys {
		if err := ids.DeleteBucket(k); err != nil {
			return fmt.Errorf("drop merged run %x: %w", k, err)
		}
	}
	return addRun(tx, ids, level+1, merged)
}

// runLevel reads the level out of a run's key.
func runLevel(k []byte) byte { return keyOf(k, 9)[0] }

// getRun returns the run that a key of the index leads to.
func getRun(ids *bolt.Bucket, k []byte) idRun {
	b := ids.Bucket(k)
	if b == nil {
		panic(fileError(fmt.Sprintf("key %x of the index of ids is not a bucket", k)))
	}
	run := idRun(b.Get(runValue))
	if len(run)%idPair != 0 {
		panic(fileError(fmt.Sprintf("run %x of the index of ids has %d bytes", k, len(run))))
	}
	return run
}

func putRun(ids *bolt.Bucket, key []byte, run idRun) error {
	b, err := ids.CreateBucket(key)
	if err != nil {
		return err
	}
	return b.Put(runValue, run)
}

// oldestKnown returns the lowest seq of which a task or a tombstone is left.
// Entries of lower ones answer nothing any more. One old task keeps the entries
// of all its successors, which costs 16 bytes each and does no harm.
func oldestKnown(tx *bolt.Tx) task.Seq {
	oldest := ^task.Seq(0)
	for _, name := range [][]byte{bucketSpecs, bucketTombs} {
		if k, _ := tx.Bucket(name).Cursor().First(); k != nil {
			oldest = min(oldest, keySeq(k))
		}
	}
	return oldest
}

// mergeRuns merges pairwise, so that each pair is moved twice for four
// runs. The result is memory of its own.
func mergeRuns(runs []idRun, oldest task.Seq) idRun {
	for len(runs) > 1 {
		next := runs[:0:0]
		for i := 0; i < len(runs); i += 2 {
			if i+1 == len(runs) {
				next = append(next, runs[i])
				continue
			}
			next = append(next, mergeTwo(runs[i], runs[i+1], oldest))
		}
		runs = next
	}
	return runs[0]
}

func mergeTwo(a, b idRun, oldest task.Seq) idRun {
	out := make(idRun, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b.hash(0) < a.hash(0) {
			from = &b
		}
		if from.seq(0) >= oldest {
			out = append(out, (*from)[:idPair]...)
		}
		*from = (*from)[idPair:]
	}
	return out
}
