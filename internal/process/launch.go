package process

import (
	"context"
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Launch hands over tasks. What cannot be sent now, or is not known to have
// arrived, goes over with the next connection (see handOver), so that neither
// the engine waits nor one bad task keeps back the others.
//
// What an owner before us may have handed over on another host waits until it is known
// whether it begins there (see inherited.go).
func (b *Backend) Launch(_ context.Context, tasks []task.Task) error {
	tasks = b.ours(tasks)
	if len(tasks) == 0 {
		return nil
	}
	if err := b.leaveTrace(); err != nil {
		return err
	}
	batch := b.newBatch()
	limits := map[string]uint32{}
	for _, t := range tasks {
		if t.Spec.Builtin != "" {
			b.echo(t)
			continue
		}
		st, env, err := b.startOf(t)
		if err != nil {
			b.refuse(t, err)
			continue
		}
		if b.opts.Pool != nil {
			name, limit := b.opts.Pool(t)
			limits[name] = uint32(max(limit, 0))
		}
		batch.add(st, env)
		b.give(t, st, env)
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
func (b *Backend) give(t task.Task, st *supervisorpb.Start, env []string) {
	ref := t.Ref()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(t.Spec.Payload) == 0 {
		b.bare[ref] = struct{}{}
	}
	if b.told[ref] < toldRunning {
		b.given[ref], b.envs[ref] = st, env
	}
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
