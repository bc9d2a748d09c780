package process

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func byAge(x, y task.Ref) int {
	return cmp.Or(cmp.Compare(x.Seq, y.Seq), cmp.Compare(x.Attempt, y.Attempt))
}

// handOver makes this the connection, and tells it first what the one before it
// may have taken along, or what came when there was none: sizes of pools,
// attempts that had not begun, stops. Whoever finds the connection now waits for
// the mutex of writing until that is said.
func (b *Backend) handOver(ss *session) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, m := range b.adopt(ss) {
		if err := ss.write(m, sendPatience); err != nil {
			return err
		}
	}
	return nil
}

// adopt makes this the connection and returns what it has to be told. Both are
// one step, so that nothing falls between.
func (b *Backend) adopt(ss *session) []*supervisorpb.ToSupervisor {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.down, b.silent = ss, "", silence{}
	b.once.Do(func() { close(b.first) })
	var out []*supervisorpb.ToSupervisor
	if len(b.limits) > 0 {
		out = append(out, limitMessage(maps.Clone(b.limits)))
	}
	batch := b.newBatch()
	for _, ref := range slices.SortedFunc(maps.Keys(b.given), byAge) {
		// A copy, since a Launch may be writing that one to the old connection.
		batch.add(proto.CloneOf(b.given[ref]), b.envs[ref])
	}
	out = append(out, batch.messages()...)
	if len(b.stops) > 0 {
		refs := slices.Collect(maps.Keys(b.stops))
		out = append(out, stopMessage(refs, b.knownOf(refs)))
	}
	return out
}
