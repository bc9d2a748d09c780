package gpupool

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const gib = int64(1) << 30

// sight is eyes that see what a test shows them.
type sight struct {
	mu      sync.Mutex
	s       *gpu.Snapshot
	at      time.Time
	changed chan struct{}
	events  []gpu.Event
	down    string
	asked   int
}

func newSight() *sight { return &sight{changed: make(chan struct{})} }

func (s *sight) Latest() (*gpu.Snapshot, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s, s.at
}

func (s *sight) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *sight) Events() []gpu.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.events
	s.events = nil
	return out
}

func (s *sight) Down() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *sight) Ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
}

// show lets the pool see devices.
func (s *sight) show(devices ...gpu.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s, s.at = &gpu.Snapshot{Format: gpu.FormatVersion, At: time.Now().UTC(), Source: gpu.SourceNVML, Devices: devices}, time.Now()
	close(s.changed)
	s.changed = make(chan struct{})
}

func id(i int) gpu.DeviceID { return gpu.DeviceID(fmt.Sprintf("GPU-%02d", i)) }

// device is an idle GPU with so much memory in use.
func device(i int, used int64) gpu.Device {
	return gpu.Device{
		ID: id(i), Kind: gpu.Whole, Model: "NVIDIA H100", Index: i, CUDAIndex: i, TotalBytes: 80 * gib, GI: -1, CI: -1,
		Sample: gpu.Sample{UsedBytes: new(used), FreeBytes: new(80*gib - used), GPUPercent: new(50), ComputeMode: gpu.ComputeShared},
	}
}

// held is a task that runs on devices.
func held(seq task.Seq, devices ...gpu.DeviceID) task.Task {
	var lease task.Lease
	for _, d := range devices {
		lease.GPUs = append(lease.GPUs, string(d))
	}
	began := task.At(time.Now().Add(-time.Minute))
	return task.Restore(seq, &task.Spec{ID: fmt.Sprint("t", seq)}, task.Status{
		State: task.Running, Attempt: 1, Lease: lease, AssignedAt: began, StartedAt: began,
	})
}

// world is a pool with its files.
type world struct {
	*Pool
	t     *testing.T
	sight *sight
}

func newWorld(t *testing.T, dir string, change ...func(*Options)) *world {
	t.Helper()
	self, err := host.Self()
	if err != nil {
		t.Fatal(err)
	}
	s := newSight()
	o := Options{
		Eyes: s, File: filepath.Join(dir, "gpus.json"), LockDir: dir, QueueID: "q1", UID: 1000, Boot: "b1",
		Starter: func() host.Process { return self }, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	o.UID = uidOf(dir)
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &world{Pool: p, t: t, sight: s}
}

// see shows devices and has the pool take them in.
func (w *world) see(devices ...gpu.Device) {
	w.sight.show(devices...)
	w.update()
}

// state is a device's, as a planner would see it with what is held.
func (w *world) state(device gpu.DeviceID) gpu.State {
	w.t.Helper()
	for _, v := range w.See(w.leases, nil, time.Now())().Verdicts {
		if v.ID == device {
			return v.State
		}
	}
	w.t.Fatalf("%s is not known", device)
	return ""
}
