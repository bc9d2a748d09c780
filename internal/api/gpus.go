package api

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// GPUs is what the server needs of this machine's GPUs.
type GPUs interface {
	// Missing says why no task that needs a GPU can ever start here; "" = one may. Right
	// after a start it waits a moment for the first look.
	Missing(ctx context.Context) string
	List() GPUList
	// Drain keeps tasks from a GPU, which is named by its UUID, the beginning of it, or
	// its index; Resume ends that. What they answer is on disk.
	Drain(id, by, reason string) (GPU, error)
	Resume(id, by string) (GPU, error)
}

// GPUList is all GPUs and MIG instances.
type GPUList struct {
	GPUs   []GPU
	Down   string // why nothing is placed on any now; "" = something may be
	Off    bool   // and nothing ever is
	Driver string
	Age    time.Duration // of the last look; below 0: there was none
}

// GPU is one of them.
type GPU struct {
	gpu.Verdict
	Health gpu.Health
	Drain  *gpu.Drain
	Owners []gpu.Owner // of the processes, in their order
	// KeptFor is the task that gets it next, before all that would hold it longer.
	KeptFor string
}

// gpus gives a task the GPUs of its class, unless it says itself what it needs, and
// refuses one that could never have them.
func (s service) gpus(ctx context.Context, spec *task.Spec, class Class) error {
	r := &spec.Resources
	if r.GPURequest().None() {
		r.GPUs = class.GPUs
	}
	if r.GPUModel != "" && r.GPUs == 0 && r.GPUMem == 0 && r.MIG == "" {
		r.GPUs = 1
	}
	ask := r.GPURequest()
	if ask.None() {
		return nil
	}
	if problem := ask.Problem(); problem != "" {
		return task.Errorf(task.CodeInvalid, "%s", problem)
	}
	if s.opts.GPUs == nil || class.Elsewhere {
		return nil // whoever runs the queue knows
	}
	if missing := s.opts.GPUs.Missing(ctx); missing != "" {
		return task.Errorf(task.CodeUnsupported, "it needs %s, and %s", ask, missing)
	}
	return nil
}

// errNoGPUs is the answer of who opened the queue for one call.
var errNoGPUs = task.Errorf(task.CodeUnavailable, "nobody looks at the GPUs while no daemon runs; start one: dspy-agent start")

// ListGPUs tells how each is.
func (s service) ListGPUs(context.Context, *pb.ListGPUsRequest) (*pb.ListGPUsResponse, error) {
	if s.opts.GPUs == nil {
		return nil, errNoGPUs
	}
	l := s.opts.GPUs.List()
	out := &pb.ListGPUsResponse{Down: text(l.Down), Off: l.Off, Driver: text(l.Driver), AgeMs: max(l.Age.Milliseconds(), -1)}
	for _, g := range l.GPUs {
		out.Gpus = append(out.Gpus, gpuTo(g))
	}
	return out, nil
}

// DrainGPU keeps tasks from one.
func (s service) DrainGPU(ctx context.Context, req *pb.DrainGPURequest) (*pb.DrainGPUResponse, error) {
	if err := (task.Pause{Reason: req.GetReason()}).Check(); err != nil {
		return nil, err
	}
	if s.opts.GPUs == nil {
		return nil, errNoGPUs
	}
	who, _ := rpc.PeerFrom(ctx)
	g, err := s.opts.GPUs.Drain(req.GetId(), who.String(), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.DrainGPUResponse{Gpu: gpuTo(g)}, nil
}

// ResumeGPU ends that, and is a person's word that it is well.
func (s service) ResumeGPU(ctx context.Context, req *pb.ResumeGPURequest) (*pb.ResumeGPUResponse, error) {
	if s.opts.GPUs == nil {
		return nil, errNoGPUs
	}
	who, _ := rpc.PeerFrom(ctx)
	g, err := s.opts.GPUs.Resume(req.GetId(), who.String())
	if err != nil {
		return nil, err
	}
	return &pb.ResumeGPUResponse{Gpu: gpuTo(g)}, nil
}

func gpuTo(g GPU) *pb.GPUStatus {
	p := &pb.GPUStatus{
		Id: text(string(g.ID)), Kind: string(g.Kind), Model: text(g.Model), Index: -1, State: string(g.State), Because: text(g.Because),
		Health: string(g.Health.State), HealthReason: text(g.Health.Reason), Holders: texts(g.Holders), Contended: g.Contended(), ReservedFor: text(g.KeptFor),
	}
	if !g.Since.IsZero() {
		p.SinceMs = g.Since.UnixMilli()
	}
	if g.Drain != nil && p.GetState() != string(gpu.Drained) { // its task goes on
		p.Because = text(joined(g.Because, "drained", g.Drain.Reason))
	}
	if d := g.Device; d != nil {
		deviceTo(p, d)
		for i, proc := range d.Sample.Processes {
			p.Processes = append(p.Processes, &pb.GPUProcess{
				Pid: int32(proc.PID), Uid: int32(proc.UID), Command: text(proc.Comm), UsedBytes: proc.UsedBytes, Owner: text(ownerText(g.Owners[i])),
			})
		}
	}
	return p
}

func deviceTo(p *pb.GPUStatus, d *gpu.Device) {
	s := &d.Sample
	p.Index, p.Pci, p.Parent, p.Profile, p.TotalBytes = int32(d.Index), text(d.PCI), text(string(d.Parent)), text(d.Profile), d.TotalBytes
	p.UsedBytes, p.FreeBytes = s.UsedBytes, s.FreeBytes
	p.GpuPercent, p.TemperatureC = converted[int, int32](s.GPUPercent), converted[int, int32](s.TemperatureC)
	p.PowerMw, p.PowerCapMw = converted[uint64, int64](s.PowerMilliW), converted[uint64, int64](s.PowerCapMilliW)
}

// converted keeps what is not known unknown.
func converted[A int | uint64, B int32 | int64](v *A) *B {
	if v == nil {
		return nil
	}
	return new(B(*v))
}

func ownerText(o gpu.Owner) string {
	if o.Kind == gpu.OwnerUser || o.Kind == "" {
		return ""
	}
	return string(o.Kind) + " " + o.Name
}

func joined(first, word, reason string) string {
	out := word
	if reason != "" {
		out += ": " + reason
	}
	if first != "" {
		out = first + "; " + out
	}
	return out
}
