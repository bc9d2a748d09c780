package process

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// batchBytes is about how large a message of starts gets. It leaves maxMessage
// far away, and the supervisor takes it in well within sendPatience.
const batchBytes = 8 << 20

// batch collects starts in messages; those with the same environment share one
// copy of it in each.
type batch struct {
	until int64  // see StartBatch
	fence uint64 // see StartBatch
	msgs  []*supervisorpb.StartBatch
	size  int      // of the last message
	last  []string // environment of the last start
}

// newBatch makes an empty one. It is good as long as the lease is known to be ours now.
func (b *Backend) newBatch() *batch {
	return &batch{until: b.opts.LeaseUntil(), fence: b.opts.Fence}
}

func (bt *batch) add(st *supervisorpb.Start, env []string) {
	n := proto.Size(st)
	if len(bt.msgs) == 0 || bt.size+n > batchBytes {
		bt.msgs, bt.size = append(bt.msgs, &supervisorpb.StartBatch{LeaseUntilNs: bt.until, Fence: bt.fence}), 0
	}
	m := bt.msgs[len(bt.msgs)-1]
	if len(m.Environments) == 0 || !slices.Equal(env, bt.last) {
		e := &supervisorpb.Environment{Entries: raw(env)}
		m.Environments = append(m.Environments, e)
		bt.last = env
		n += proto.Size(e)
	}
	st.Environment = uint32(len(m.Environments) - 1)
	m.Starts = append(m.Starts, st)
	bt.size += n
}

func (bt *batch) messages() []*supervisorpb.ToSupervisor {
	out := make([]*supervisorpb.ToSupervisor, len(bt.msgs))
	for i, m := range bt.msgs {
		out[i] = &supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Start{Start: m}}
	}
	return out
}

func (bt *batch) send(ss *session) error {
	for _, m := range bt.messages() {
		if err := ss.send(m); err != nil {
			return err
		}
	}
	return nil
}

func raw(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}
