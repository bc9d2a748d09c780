package queue

import (
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// The two directions between the domain and its records: encode.go and
// decode.go. A field that is missing in one of them is found by
// TestRecordsKeepEveryField, which fills every field by reflection.

func encodeSpec(s *task.Spec, env envHash) *queuepb.SpecRecord {
	r := &queuepb.SpecRecord{
		Id: s.ID, Name: s.Name, Class: s.Class, Priority: s.Priority,
		Builtin: s.Builtin, Argv: toBytes(s.Argv), Dir: []byte(s.Dir), EnvHash: env.bytes(), Env: toBytes(s.Env),
		Timeout: int64(s.Timeout), Grace: int64(s.Grace), Retries: int64(s.Retries),
		BackoffBase: int64(s.BackoffBase), BackoffCap: int64(s.BackoffCap), OnLost: uint32(s.OnLost),
		Resources: encodeResources(s.Resources), Image: s.Image, Needs: s.Needs, Backends: s.Backends,
		WorkflowId: s.WorkflowID, Tenant: s.Tenant, SubmitUid: s.SubmitUID, Via: s.Via,
		Extra: s.Extra, SubmittedAt: int64(s.SubmittedAt), ContainerDir: []byte(s.ContainerDir),
		Network: s.Network, ImageEntrypoint: s.ImageEntrypoint, ClassTimeout: s.ClassTimeout,
	}
	if r.PayloadApart = len(s.Payload) > maxInlinePayload; !r.PayloadApart {
		r.Payload = s.Payload
	}
	for _, m := range s.Mounts {
		r.Mounts = append(r.Mounts, &queuepb.MountRecord{Host: []byte(m.Host), Target: []byte(m.Target), ReadOnly: m.ReadOnly})
	}
	for _, d := range s.After {
		r.After = append(r.After, &queuepb.DepRecord{Id: d.ID, Seq: uint64(d.Seq), When: uint32(d.When)})
	}
	return r
}

func encodeResources(r task.Resources) *queuepb.ResourcesRecord {
	if r == (task.Resources{}) {
		return nil
	}
	return &queuepb.ResourcesRecord{
		CpuMilli: r.CPUMilli, MemBytes: r.MemBytes, Gpus: int64(r.GPUs), GpuMem: r.GPUMem, GpuModel: r.GPUModel, Mig: r.MIG,
	}
}

func encodeStatus(s task.Status) *queuepb.StatusRecord {
	r := &queuepb.StatusRecord{
		State: uint32(s.State), Attempt: int64(s.Attempt), Blocked: int64(s.Blocked), NotBefore: int64(s.NotBefore),
		Held: text(s.Held), Backend: text(s.Backend), Lease: encodeLease(s.Lease), Handle: s.Handle,
		Detail: text(s.Detail), Cause: uint32(s.Cause),
		AssignedAt: int64(s.AssignedAt), StartingAt: int64(s.StartingAt), StartedAt: int64(s.StartedAt),
		StoppingAt: int64(s.StoppingAt), EndedAt: int64(s.EndedAt),
		Outcome: encodeOutcome(s.Outcome), Used: encodeUsed(s.Used),
	}
	if c := s.Cancel; c != nil {
		r.Cancel = &queuepb.CancelRecord{At: int64(c.At), By: text(c.By), Reason: text(c.Reason)}
	}
	for _, a := range s.Past {
		r.Past = append(r.Past, &queuepb.AttemptRecord{
			Number: int64(a.Number), State: uint32(a.State), Backend: text(a.Backend),
			AssignedAt: int64(a.AssignedAt), StartedAt: int64(a.StartedAt), EndedAt: int64(a.EndedAt),
			Outcome: encodeOutcome(a.Outcome),
		})
	}
	return r
}

func encodeLease(l task.Lease) *queuepb.LeaseRecord {
	if l.CPUMilli == 0 && l.MemBytes == 0 && len(l.GPUs) == 0 && l.GPUMem == 0 && l.CUDA == "" && !l.Ahead {
		return nil
	}
	return &queuepb.LeaseRecord{CpuMilli: l.CPUMilli, MemBytes: l.MemBytes, Gpus: l.GPUs, GpuMem: l.GPUMem, Ahead: l.Ahead, Cuda: text(l.CUDA)}
}

func encodeOutcome(o task.Outcome) *queuepb.OutcomeRecord {
	if o == (task.Outcome{}) {
		return nil
	}
	return &queuepb.OutcomeRecord{
		ExitCode: int64(o.ExitCode), Signal: int64(o.Signal), Class: uint32(o.Class),
		Message: text(o.Message), Node: text(o.Node), MaxRss: o.MaxRSS, CpuTime: int64(o.CPUTime / time.Nanosecond),
		GpuHeld: int64(o.GPU.Held), GpuBusy: int64(o.GPU.Busy), GpuPeak: o.GPU.Peak,
	}
}

func encodeUsed(used [16]uint16) []uint32 {
	n := len(used)
	for n > 0 && used[n-1] == 0 {
		n--
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32(used[i])
	}
	return out
}

func encodeEvent(r task.Record) *queuepb.EventRecord {
	return &queuepb.EventRecord{
		At: int64(r.At), Seq: uint64(r.Seq), Id: r.ID, Class: r.Class, Kind: uint32(r.Kind), Attempt: int64(r.Attempt),
		From: uint32(r.From), To: uint32(r.To), Again: r.Again, NotBefore: int64(r.NotBefore),
		Backend: text(r.Backend), Outcome: encodeOutcome(r.Outcome), Text: text(r.Text), Fence: r.Fence,
	}
}

func encodeFinal(f task.Final) *queuepb.FinalRecord {
	return &queuepb.FinalRecord{
		Id: f.ID, Seq: uint64(f.Seq), State: uint32(f.State), EndedAt: int64(f.EndedAt), Digest: f.Digest[:],
	}
}

// text makes a sentence storable: backends pass on what programs said, and a
// protobuf string has to be UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}
