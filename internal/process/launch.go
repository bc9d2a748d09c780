package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Launch hands over tasks. What cannot be sent now, or is not known to have
// arrived, goes over with the next connection (see handOver), so that neither
// the engine waits nor one bad task keeps back the others.
func (b *Backend) Launch(_ context.Context, tasks []task.Task) error {
	batch := &batch{}
	limits := map[string]uint32{}
	for _, t := range tasks {
		if t.Spec.Builtin != "" {
			b.echo(t)
			continue
		}
		st, env, err := b.startOf(t, limits)
		if err != nil {
			b.refuse(t, err)
			continue
		}
		batch.add(st, env)
		b.give(t.Ref(), st, env)
	}
	// The session is looked up last: one that is newer has been handed all this.
	ss, changed := b.noteLimits(limits)
	if ss == nil {
		return nil
	}
	if err := errors.Join(sendLimits(ss, changed), batch.send(ss)); err != nil {
		b.opts.Logger.Warn("tasks go to the process supervisor once more with the next connection", "tasks", len(tasks), "error", err)
	}
	return nil
}

// give keeps a start until it is known to have begun.
func (b *Backend) give(ref task.Ref, st *supervisorpb.Start, env []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told[ref] < toldRunning {
		b.given[ref], b.envs[ref] = st, env
	}
}

// batchBytes is about how large a message of starts gets. It leaves maxMessage
// far away, and the supervisor takes it in well within sendPatience.
const batchBytes = 8 << 20

// batch collects starts in messages; those with the same environment share one
// copy of it in each.
type batch struct {
	msgs []*supervisorpb.StartBatch
	size int      // of the last message
	last []string // environment of the last start
}

func (bt *batch) add(st *supervisorpb.Start, env []string) {
	n := proto.Size(st)
	if len(bt.msgs) == 0 || bt.size+n > batchBytes {
		bt.msgs, bt.size = append(bt.msgs, &supervisorpb.StartBatch{}), 0
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

// startOf makes the message about one task, and the files that have to be there
// before it begins.
func (b *Backend) startOf(t task.Task, limits map[string]uint32) (*supervisorpb.Start, []string, error) {
	ref, s := t.Ref(), t.Spec
	if err := b.layout.prepare(ref); err != nil {
		return nil, nil, err
	}
	extra := []string{
		"DSPY_TASK_ID=" + s.ID,
		"DSPY_TASK_CLASS=" + s.Class,
		"DSPY_TASK_ATTEMPT=" + strconv.Itoa(ref.Attempt),
		"DSPY_RESULT_FILE=" + b.layout.ResultPath(ref),
	}
	if len(s.Payload) > 0 {
		path := b.layout.PayloadPath(ref)
		if err := writePayload(path, s.Payload); err != nil {
			return nil, nil, err
		}
		extra = append(extra, "DSPY_PAYLOAD_FILE="+path)
	}
	own := s.Env
	if b.opts.Env != nil {
		if more := b.opts.Env(t); len(more) > 0 {
			own = append(without(own, more), more...)
		}
	}
	env := s.Ambient
	if len(env) == 0 {
		env = b.opts.BaseEnv
	}
	if len(own) > 0 {
		env = without(env, own)
		extra = append(extra, own...)
	}
	st := &supervisorpb.Start{
		Name: nameOf(ref), Argv: raw(s.Argv), Dir: []byte(s.Dir), ExtraEnv: raw(extra),
		LogPath: []byte(b.layout.LogPath(ref)), TimeoutNs: int64(s.Timeout), GraceNs: int64(s.Grace),
	}
	if b.opts.Pool != nil {
		name, limit := b.opts.Pool(t)
		st.Pool = name
		limits[name] = uint32(max(limit, 0))
	}
	return st, env, nil
}

// without returns env less the variables that others set.
func without(env, others []string) []string {
	set := make(map[string]bool, len(others))
	for _, kv := range others {
		k, _, _ := strings.Cut(kv, "=")
		set[k] = true
	}
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return set[k]
	})
}

// writePayload writes the payload for the program, in one step. A repeat finds
// it there: the name is that of the attempt, and a payload never changes.
func writePayload(path string, payload []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write payload: %w", err)
	}
	_, err = f.Write(payload)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write payload: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write payload: %w", err)
	}
	return nil
}

// noteLimits takes over the sizes of pools. It returns those that changed, and
// the connection to tell them through.
func (b *Backend) noteLimits(limits map[string]uint32) (*session, map[string]uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := map[string]uint32{}
	for name, n := range limits {
		if old, ok := b.limits[name]; !ok || old != n {
			b.limits[name], changed[name] = n, n
		}
	}
	return b.session, changed
}

// sendLimits tells the supervisor the sizes of pools that changed.
func sendLimits(ss *session, changed map[string]uint32) error {
	if len(changed) == 0 {
		return nil
	}
	return ss.send(limitMessage(changed))
}

func limitMessage(limits map[string]uint32) *supervisorpb.ToSupervisor {
	return &supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Pools{Pools: &supervisorpb.PoolLimits{Limits: limits}}}
}
