package process

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// startOf makes the message about one task, with its environment, and the files
// that have to be there before it begins.
func (b *Backend) startOf(t task.Task) (*supervisorpb.Start, []string, error) {
	if err := b.layout.Prepare(t.Ref()); err != nil {
		return nil, nil, err
	}
	if len(t.Spec.Payload) > 0 {
		if err := taskfiles.WritePayload(b.layout.PayloadPath(t.Ref()), t.Spec.Payload); err != nil {
			return nil, nil, err
		}
	}
	shared, extra := b.environment(t)
	c := b.claimOf(t)
	return &supervisorpb.Start{
		Name: nameOf(t.Ref()), Argv: raw(t.Spec.Argv), Dir: []byte(t.Spec.Dir), ExtraEnv: raw(extra),
		LogPath: c.GetLogPath(), TimeoutNs: c.GetTimeoutNs(), GraceNs: c.GetGraceNs(), Pool: c.GetPool(),
	}, shared, nil
}

// environment returns what the program gets: what it may share with others, as
// it was submitted or else the daemon's own basics, and what is its alone. A
// variable is in one of the two. What the backend's owner gives (the GPUs, say)
// wins over the spec, and the spec over what was inherited.
func (b *Backend) environment(t task.Task) (shared, extra []string) {
	s := t.Spec
	own := s.Env
	if b.opts.Env != nil {
		if more := b.opts.Env(t); len(more) > 0 {
			own = append(without(own, more), more...)
		}
	}
	shared = s.Ambient
	if len(shared) == 0 {
		shared = b.opts.BaseEnv
	}
	if len(own) > 0 {
		shared = without(shared, own)
	}
	return shared, append(b.taskVariables(t), own...)
}

// taskVariables tell a program what it is and where its files are.
func (b *Backend) taskVariables(t task.Task) []string {
	ref := t.Ref()
	out := []string{
		"DSPY_TASK_ID=" + t.Spec.ID,
		"DSPY_TASK_CLASS=" + t.Spec.Class,
		"DSPY_TASK_ATTEMPT=" + strconv.Itoa(ref.Attempt),
		"DSPY_RESULT_FILE=" + b.layout.ResultPath(ref),
	}
	if len(t.Spec.Payload) > 0 {
		out = append(out, "DSPY_PAYLOAD_FILE="+b.layout.PayloadPath(ref))
	}
	return out
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
