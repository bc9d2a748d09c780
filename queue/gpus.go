package queue

import (
	"errors"
	"maps"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// gpuLeases is who holds which GPU: what the records of active tasks say, turned round.
// It is kept in memory, so it cannot disagree with them after a crash, and it is asked in
// the transaction that grants a lease: whatever a planner believed, no GPU is leased to
// two.
type gpuLeases map[string]map[task.Seq]int64 // by UUID; bytes of a share, 0 = all of it

// load reads the leases of the active tasks. What cannot be read is passed over: its
// holder is known to the planner, or to nobody.
func (g gpuLeases) load(tx *bolt.Tx, damaged func(task.Seq, error) bool) error {
	return tx.Bucket(bucketActive).ForEach(func(k, _ []byte) error {
		seq := keySeq(k)
		t, err := readBrief(tx, seq)
		if err != nil {
			if errors.Is(err, ErrNotFound) || damaged(seq, err) {
				return nil
			}
			return err
		}
		g.add(seq, t.Status().Lease)
		return nil
	})
}

func (g gpuLeases) add(seq task.Seq, l task.Lease) {
	for _, uuid := range l.GPUs {
		if g[uuid] == nil {
			g[uuid] = map[task.Seq]int64{}
		}
		g[uuid][seq] = l.GPUMem
	}
}

func (g gpuLeases) remove(seq task.Seq, l task.Lease) {
	for _, uuid := range l.GPUs {
		if delete(g[uuid], seq); len(g[uuid]) == 0 {
			delete(g, uuid)
		}
	}
}

// clone is a copy that a batch may change.
func (g gpuLeases) clone() gpuLeases {
	out := make(gpuLeases, len(g))
	for uuid, holders := range g {
		out[uuid] = maps.Clone(holders)
	}
	return out
}

// leases are those of the batch so far. They are copied when a batch first changes one:
// there are a few of them on a machine with GPUs, and none on others.
func (b *batch) leases() gpuLeases {
	if b.gpus == nil {
		b.gpus = b.q.mem.gpus.clone()
	}
	return b.gpus
}

// mayLease refuses a lease of a GPU that another task has.
func (b *batch) mayLease(t task.Task, l task.Lease) error {
	for _, uuid := range l.GPUs {
		for seq, bytes := range b.leases()[uuid] {
			if seq != t.Seq && (bytes == 0 || l.GPUMem == 0) {
				return task.Errorf(task.CodeConflict, "%s cannot be leased to task %s: task number %d has it", uuid, t.Spec.ID, seq)
			}
		}
	}
	return nil
}

// moveLease follows a task from one lease to the next.
func (b *batch) moveLease(t task.Task, next task.Lease) {
	was := t.Status().Lease
	if len(was.GPUs) == 0 && len(next.GPUs) == 0 {
		return
	}
	b.leases().remove(t.Seq, was)
	b.leases().add(t.Seq, next)
}
