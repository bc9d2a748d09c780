package queue

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// decodeSpec returns all of the spec that sits in its record: not the
// ambient environment, and not a payload that is stored apart.
func decodeSpec(r *queuepb.SpecRecord) *task.Spec {
	s := &task.Spec{
		ID: r.Id, Name: r.Name, Class: r.Class, Priority: r.Priority,
		Builtin: r.Builtin, Argv: toStrings(r.Argv), Dir: string(r.Dir), Env: toStrings(r.Env),
		Timeout: time.Duration(r.Timeout), Grace: time.Duration(r.Grace), Retries: int(r.Retries),
		BackoffBase: time.Duration(r.BackoffBase), BackoffCap: time.Duration(r.BackoffCap), OnLost: task.LostPolicy(r.OnLost),
		Resources: decodeResources(r.Resources), Image: r.Image, Needs: r.Needs, Backends: r.Backends,
		WorkflowID: r.WorkflowId, Tenant: r.Tenant, SubmitUID: r.SubmitUid, Via: r.Via,
		SubmittedAt: task.Instant(r.SubmittedAt), ContainerDir: string(r.ContainerDir),
		Network: r.Network, ImageEntrypoint: r.ImageEntrypoint, ClassTimeout: r.ClassTimeout,
	}
	if len(r.Payload) > 0 {
		s.Payload = r.Payload
	}
	if len(r.Extra) > 0 {
		s.Extra = r.Extra
	}
	for _, m := range r.Mounts {
		s.Mounts = append(s.Mounts, task.Mount{Host: string(m.Host), Target: string(m.Target), ReadOnly: m.ReadOnly})
	}
	for _, d := range r.After {
		s.After = append(s.After, task.Dep{ID: d.Id, Seq: task.Seq(d.Seq), When: task.Condition(d.When)})
	}
	return s
}

func decodeResources(r *queuepb.ResourcesRecord) task.Resources {
	return task.Resources{
		CPUMilli: r.GetCpuMilli(), MemBytes: r.GetMemBytes(), GPUs: int(r.GetGpus()),
		GPUMem: r.GetGpuMem(), GPUModel: r.GetGpuModel(), MIG: r.GetMig(),
	}
}

func decodeStatus(r *queuepb.StatusRecord) task.Status {
	s := task.Status{
		State: task.State(r.State), Attempt: int(r.Attempt), Blocked: int(r.Blocked), NotBefore: task.Instant(r.NotBefore),
		Held: r.Held, Backend: r.Backend, Lease: decodeLease(r.Lease), Handle: r.Handle,
		Detail: r.Detail, Cause: task.Cause(r.Cause),
		AssignedAt: task.Instant(r.AssignedAt), StartingAt: task.Instant(r.StartingAt), StartedAt: task.Instant(r.StartedAt),
		StoppingAt: task.Instant(r.StoppingAt), EndedAt: task.Instant(r.EndedAt),
		Outcome: decodeOutcome(r.Outcome), Used: decodeUsed(r.Used),
	}
	if c := r.Cancel; c != nil {
		s.Cancel = &task.Cancel{At: task.Instant(c.At), By: c.By, Reason: c.Reason}
	}
	for _, a := range r.Past {
		s.Past = append(s.Past, task.Attempt{
			Number: int(a.Number), State: task.State(a.State), Backend: a.Backend,
			AssignedAt: task.Instant(a.AssignedAt), StartedAt: task.Instant(a.StartedAt), EndedAt: task.Instant(a.EndedAt),
			Outcome: decodeOutcome(a.Outcome),
		})
	}
	return s
}

func decodeLease(r *queuepb.LeaseRecord) task.Lease {
	return task.Lease{
		CPUMilli: r.GetCpuMilli(), MemBytes: r.GetMemBytes(), GPUs: r.GetGpus(), GPUMem: r.GetGpuMem(), Ahead: r.GetAhead(), CUDA: r.GetCuda(),
	}
}

func decodeOutcome(r *queuepb.OutcomeRecord) task.Outcome {
	return task.Outcome{
		ExitCode: int(r.GetExitCode()), Signal: int(r.GetSignal()), Class: task.FailureClass(r.GetClass()),
		Message: r.GetMessage(), Node: r.GetNode(), MaxRSS: r.GetMaxRss(), CPUTime: time.Duration(r.GetCpuTime()),
		GPU: task.GPUUse{Held: time.Duration(r.GetGpuHeld()), Busy: time.Duration(r.GetGpuBusy()), Peak: r.GetGpuPeak()},
	}
}

func decodeUsed(used []uint32) (out [16]uint16) {
	for i := range min(len(used), len(out)) {
		out[i] = uint16(used[i])
	}
	return out
}

func decodeEvent(index uint64, r *queuepb.EventRecord) task.Record {
	return task.Record{
		Index: index, At: task.Instant(r.At), Seq: task.Seq(r.Seq), ID: r.Id, Class: r.Class,
		Kind: task.EventKind(r.Kind), Attempt: int(r.Attempt), From: task.State(r.From), To: task.State(r.To),
		Again: r.Again, NotBefore: task.Instant(r.NotBefore), Backend: r.Backend, Outcome: decodeOutcome(r.Outcome), Text: r.Text, Fence: r.Fence,
	}
}

func decodeFinal(r *queuepb.FinalRecord) task.Final {
	f := task.Final{ID: r.Id, Seq: task.Seq(r.Seq), State: task.State(r.State), EndedAt: task.Instant(r.EndedAt)}
	copy(f.Digest[:], r.Digest)
	return f
}

func toStrings(list [][]byte) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}
