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

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Launch hands over tasks, in one message.
func (b *Backend) Launch(ctx context.Context, tasks []task.Task) error {
	ss, err := b.connected(ctx)
	if err != nil {
		return err
	}
	batch := newBatch()
	limits := map[string]uint32{}
	for _, t := range tasks {
		if t.Spec.Builtin != "" {
			b.echo(t)
			continue
		}
		st, env, err := b.startOf(t, limits)
		if err != nil {
			return err
		}
		batch.add(st, env)
		b.mu.Lock()
		if b.told[t.Ref()] < toldRunning {
			b.given[t.Ref()], b.envs[t.Ref()] = st, env
		}
		b.mu.Unlock()
	}
	if err := b.sendLimits(ss, limits); err != nil {
		return err
	}
	return batch.send(ss)
}

// batch collects starts; those with the same environment share one copy of it.
type batch struct {
	msg  *supervisorpb.StartBatch
	last []string // environment of the last start
}

func newBatch() *batch { return &batch{msg: &supervisorpb.StartBatch{}} }

func (bt *batch) add(st *supervisorpb.Start, env []string) {
	if len(bt.msg.Environments) == 0 || !slices.Equal(env, bt.last) {
		bt.msg.Environments = append(bt.msg.Environments, &supervisorpb.Environment{Entries: raw(env)})
		bt.last = env
	}
	st.Environment = uint32(len(bt.msg.Environments) - 1)
	bt.msg.Starts = append(bt.msg.Starts, st)
}

func (bt *batch) send(ss *session) error {
	if len(bt.msg.Starts) == 0 {
		return nil
	}
	return ss.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Start{Start: bt.msg}})
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

// sendLimits tells the supervisor the sizes of pools that changed.
func (b *Backend) sendLimits(ss *session, limits map[string]uint32) error {
	b.mu.Lock()
	changed := map[string]uint32{}
	for name, n := range limits {
		if old, ok := b.limits[name]; !ok || old != n {
			b.limits[name], changed[name] = n, n
		}
	}
	b.mu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	return ss.send(limitMessage(changed))
}

func limitMessage(limits map[string]uint32) *supervisorpb.ToSupervisor {
	return &supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Pools{Pools: &supervisorpb.PoolLimits{Limits: limits}}}
}
