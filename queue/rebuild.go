package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// How much of what was salvaged goes into one transaction.
const (
	rebuildTasks  = 1000
	rebuildEvents = 10_000
)

// rebuild makes a new database of what was salvaged, in a folder of its own, and
// returns its path. The tasks go in the way that new ones do, so that the indexes are
// made by the code that keeps them.
func (r *rescuer) rebuild(ctx context.Context, dir string, log *slog.Logger, progress Progress) (path string, err error) {
	q, err := Open(ctx, Options{Dir: dir, Logger: log, MaxWaiting: -1})
	if err != nil {
		return "", err
	}
	q.db.NoSync = true // it is nobody's yet; trim makes sure of it
	path = q.path
	defer func() {
		if q != nil {
			err = errors.Join(err, q.Close())
		}
	}()
	w := rebuilder{rescuer: r, q: q, tell: progress}
	for _, step := range []func(context.Context) error{w.succeed, w.events, w.tasks, w.releases, w.paused} {
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	if err := q.Check(ctx); err != nil {
		return "", fmt.Errorf("what was made anew is not sound, and is not used: %w", err)
	}
	if err := w.finish(); err != nil {
		return "", err
	}
	q.db.NoSync = false
	closing := q
	q = nil
	if err := closing.Close(); err != nil {
		return "", err
	}
	return path, trim(path)
}

// rebuilder writes one new database.
type rebuilder struct {
	*rescuer
	q    *Queue
	tell Progress
}

// succeed makes this opening follow those of the database that was salvaged. It comes
// first: the records that are added here stand behind those of earlier owners, whose
// numbers they may not fall below.
func (w *rebuilder) succeed(context.Context) error {
	return w.q.update(func(tx *bolt.Tx) error {
		w.q.fence = max(w.q.fence, w.fence+1)
		if err := putMetaNumber(tx.Bucket(bucketMeta), metaFence, w.q.fence); err != nil {
			return err
		}
		return tx.Bucket(bucketLists).SetSequence(w.q.fence) // the index is kept
	})
}

// events stores the event log. Where records are missing, empty ones take their
// place, as a reader is shown them anyway where they cannot be read.
func (w *rebuilder) events(ctx context.Context) error {
	if w.first > w.last {
		return w.sequence(ctx)
	}
	items := w.s.pile(bucketEvents).items
	empty, err := seal(&queuepb.EventRecord{})
	if err != nil {
		return err
	}
	for from := w.first; from <= w.last; from += rebuildEvents {
		to := min(from+rebuildEvents-1, w.last)
		if err := w.q.write(ctx, 1, func(b *batch) error {
			bk, at := b.bucket(bucketEvents), items
			for i := from; i <= to; i++ {
				k, v := uint64Key(i), empty
				if len(at) > 0 && bytes.Equal(at[0].key, k) {
					v, at = at[0].value, at[1:]
				}
				if err := bk.Put(k, v); err != nil {
					return err
				}
			}
			b.lastIndex = to
			return nil
		}); err != nil {
			return fmt.Errorf("store the event log: %w", err)
		}
		for len(items) > 0 && uint64(keySeq(items[0].key)) <= to {
			items = items[1:]
		}
		w.tell.tell("storing events", int64(to-w.first), int64(w.last-w.first))
	}
	return nil
}

// sequence makes a log without records go on from where it was.
func (w *rebuilder) sequence(ctx context.Context) error {
	return w.q.write(ctx, 1, func(b *batch) error {
		b.lastIndex = w.last
		return nil
	})
}

// tasks stores the tasks, and what is left of those that were removed, in the order
// of their numbers: the index of ids needs it.
func (w *rebuilder) tasks(ctx context.Context) error {
	todo := w.order()
	done := 0
	for part := range slices.Chunk(todo, rebuildTasks) {
		err := w.q.write(ctx, len(part), func(b *batch) error {
			var stored []*entry
			for _, seq := range part {
				e, err := w.store(b, seq)
				if err != nil {
					return fmt.Errorf("task %d: %w", seq, err)
				}
				if e != nil {
					stored = append(stored, e)
				}
			}
			if err := b.storeTasks(); err != nil {
				return err
			}
			return b.storeStatuses(stored)
		})
		if err != nil {
			return fmt.Errorf("store the tasks: %w", err)
		}
		done += len(part)
		w.tell.tell("storing tasks", int64(done), int64(len(todo)))
	}
	return w.q.write(ctx, 1, func(b *batch) error {
		b.lastSeq = max(b.lastSeq, w.lastSeq)
		return nil
	})
}

// order returns the numbers of all that is stored under one.
func (w *rebuilder) order() []task.Seq {
	var all []task.Seq
	for _, name := range [][]byte{bucketSpecs, bucketTombs} {
		for _, e := range w.s.pile(name).items {
			all = append(all, keySeq(e.key))
		}
	}
	for seq, f := range w.lost {
		if f.ID != "" {
			all = append(all, seq)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// store stores one task, or returns nil where only a tombstone is left.
func (w *rebuilder) store(b *batch, seq task.Seq) (*entry, error) {
	k := seqKey(seq)
	b.lastSeq = max(b.lastSeq, seq)
	raw := w.s.pile(bucketSpecs).get(k)
	if raw == nil {
		return nil, w.storeTomb(b, seq)
	}
	var rec queuepb.SpecRecord
	if err := openMessage(bucketSpecs, k, raw, &rec); err != nil {
		return nil, err
	}
	spec := decodeSpec(&rec)
	missing := w.complete(&rec, spec, k)
	e := &entry{fresh: true, dirty: true, at: spec.SubmittedAt}
	if missing != "" {
		sealed, err := sealSpec(spec, hashEnv(spec.Ambient))
		if err != nil {
			return nil, err
		}
		raw = sealed
	}
	if err := w.storeParts(b, spec, k, raw); err != nil {
		return nil, err
	}
	b.newIDs.add(hashID(spec.ID), seq)
	err := w.revive(b, e, seq, spec, missing)
	if err == nil && e.task.Status().Held != "" && !e.task.State().Terminal() {
		w.held++
	}
	return e, err
}

// complete fills in what is stored beside a spec, and says what is missing.
func (w *rebuilder) complete(rec *queuepb.SpecRecord, spec *task.Spec, k []byte) (missing string) {
	if rec.PayloadApart {
		body, ok := w.blob(bucketPayloads, k)
		if spec.Payload = body; !ok {
			spec.Payload, missing = nil, "payload"
		}
	}
	if len(rec.EnvHash) > 0 {
		vars, ok := w.env(rec.EnvHash)
		if spec.Ambient = vars; !ok {
			missing = "environment"
		}
	}
	if missing != "" { // it can not be tried again as it was meant
		spec.Retries, spec.OnLost = 0, task.LostFail
	}
	return missing
}

func (w *rebuilder) storeParts(b *batch, spec *task.Spec, k, raw []byte) error {
	if err := b.shareEnv(hashEnv(spec.Ambient), spec.Ambient); err != nil {
		return err
	}
	if err := b.bucket(bucketSpecs).Put(k, raw); err != nil {
		return err
	}
	if len(spec.Payload) > maxInlinePayload {
		if err := b.bucket(bucketPayloads).Put(k, sealBytes(spec.Payload)); err != nil {
			return err
		}
	}
	if v := w.s.pile(bucketResults).get(k); v != nil {
		return b.bucket(bucketResults).Put(k, v)
	}
	return nil
}

// storeTomb stores what is left of a task. One that is lost leaves it as well, so
// that its id is not accepted for other work.
func (w *rebuilder) storeTomb(b *batch, seq task.Seq) error {
	k := seqKey(seq)
	if v := w.s.pile(bucketTombs).get(k); v != nil {
		id, err := tombID(k, v)
		if err != nil {
			return err
		}
		b.newIDs.add(hashID(id), seq)
		return b.bucket(bucketTombs).Put(k, v)
	}
	f := w.lost[seq]
	v, err := seal(encodeFinal(f))
	if err != nil {
		return err
	}
	b.newIDs.add(hashID(f.ID), seq)
	return b.bucket(bucketTombs).Put(k, v)
}

// storeStatuses stores the statuses that storeTasks takes for those of new tasks.
func (b *batch) storeStatuses(stored []*entry) error {
	for _, e := range stored {
		s := e.task.Status()
		if s.State == task.Pending && s.Attempt == 1 && s.Blocked == 0 && s.Held == "" && s.Cancel == nil && s.NotBefore == 0 {
			continue
		}
		v, err := seal(encodeStatus(s))
		if err != nil {
			return err
		}
		if err := b.bucket(bucketStatus).Put(seqKey(e.task.Seq), v); err != nil {
			return err
		}
	}
	return nil
}

// releases notes which tasks have ended and are still waited for.
func (w *rebuilder) releases(ctx context.Context) error {
	return w.q.write(ctx, 1, func(b *batch) error {
		var ended []task.Seq
		c := b.bucket(bucketWaits).Cursor()
		for k, _ := c.First(); k != nil; {
			dep := keySeq(k[:8])
			end, err := b.endOf(dep)
			if err != nil {
				return err
			}
			if end != nil {
				ended = append(ended, dep)
			}
			k, _ = c.Seek(seqKey(dep + 1))
		}
		for _, seq := range ended {
			if err := b.bucket(bucketReleases).Put(seqKey(seq), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *rebuilder) paused(context.Context) error {
	p := w.s.pile(bucketPaused)
	return w.q.update(func(tx *bolt.Tx) error {
		bk := tx.Bucket(bucketPaused)
		for _, e := range p.items {
			if err := bk.Put(e.key, e.value); err != nil {
				return err
			}
		}
		for k := range p.bad {
			v, err := seal(&queuepb.PauseRecord{At: int64(w.now), By: w.by, Reason: "the record of why was damaged"})
			if err != nil {
				return err
			}
			if err := bk.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// finish gives the database the identity of the one that it follows.
func (w *rebuilder) finish() error {
	return w.q.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if w.id != "" {
			if err := b.Put(metaID, []byte(w.id)); err != nil {
				return err
			}
		}
		if w.created != 0 {
			return putMetaNumber(b, metaCreated, w.created)
		}
		return nil
	})
}
