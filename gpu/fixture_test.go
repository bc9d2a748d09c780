package gpu_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

const gib = int64(1) << 30

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// id is the UUID of the n-th GPU of tests.
func id(n int) gpu.DeviceID { return gpu.DeviceID(fmt.Sprintf("GPU-%02d", n)) }

// device is an idle GPU.
func device(n int) gpu.Device {
	return gpu.Device{
		ID: id(n), Kind: gpu.Whole, Model: "NVIDIA A100-SXM4-80GB", Index: n, Minor: n, CUDAIndex: n,
		PCI: fmt.Sprintf("0000:%02x:00.0", n), NUMANode: -1, TotalBytes: 80 * gib, GI: -1, CI: -1,
		Sample: gpu.Sample{
			UsedBytes: new(int64(0)), FreeBytes: new(80 * gib), ReservedBytes: new(int64(0)),
			ComputeMode: gpu.ComputeShared, EnergyMilliJ: new(uint64(1000)), ECCUncorrected: new(uint64(0)),
			Remapped: &gpu.RemappedRow{}, RecoveryAction: new(0),
		},
	}
}

// instance is an idle MIG instance of the n-th GPU.
func instance(n, k int) gpu.Device {
	d := device(n)
	d.ID, d.Kind, d.Parent = gpu.DeviceID(fmt.Sprintf("MIG-%02d-%d", n, k)), gpu.MIG, id(n)
	d.Profile, d.GI, d.CI, d.CUDAIndex = "1g.10gb", k, 0, -1
	d.TotalBytes, d.Sample = 10*gib, gpu.Sample{UsedBytes: new(int64(0)), FreeBytes: new(10 * gib), ComputeMode: gpu.ComputeShared}
	return d
}

// runs puts a process on a device.
func runs(d *gpu.Device, pid int, bytes int64) {
	d.Sample.Processes = append(d.Sample.Processes, gpu.Process{PID: pid, StartTicks: uint64(pid), UID: 1001, Comm: "python", UsedBytes: &bytes, GI: -1, CI: -1})
	d.Sample.UsedBytes = new(*d.Sample.UsedBytes + bytes)
	d.Sample.FreeBytes = new(*d.Sample.FreeBytes - bytes)
}

func snapshot(at time.Time, devices ...gpu.Device) *gpu.Snapshot {
	return &gpu.Snapshot{Format: gpu.FormatVersion, At: at, Source: gpu.SourceNVML, Devices: devices}
}

// world is a book and what it is fed with.
type world struct {
	t      *testing.T
	now    time.Time
	book   gpu.Book
	last   *gpu.Snapshot
	leases []gpu.Lease
	owners gpu.Attribution
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, now: noon, owners: gpu.Attribution{Processes: map[gpu.ProcessKey]gpu.Owner{}}}
}

// see shows the devices to the book, after some time.
func (w *world) see(after time.Duration, devices ...gpu.Device) {
	w.t.Helper()
	w.now = w.now.Add(after)
	w.last = snapshot(w.now, devices...)
	w.observe(gpu.Observation{Snapshot: w.last})
}

// hear tells the book of events.
func (w *world) hear(events ...gpu.Event) {
	w.t.Helper()
	for i := range events {
		events[i].At = w.now
	}
	w.observe(gpu.Observation{Events: events})
}

func (w *world) observe(o gpu.Observation) {
	o.Now, o.Boot, o.Leases, o.Attribution = w.now, "boot-1", w.leases, w.owners
	w.book = w.book.After(o)
}

func (w *world) verdicts() []gpu.Verdict { return gpu.Judge(w.book, w.last, w.leases, w.now) }

func (w *world) verdict(device gpu.DeviceID) gpu.Verdict {
	w.t.Helper()
	for _, v := range w.verdicts() {
		if v.ID == device {
			return v
		}
	}
	w.t.Fatalf("no verdict on %s", device)
	return gpu.Verdict{}
}

// want fails unless the device is in that state.
func (w *world) want(device gpu.DeviceID, state gpu.State) {
	w.t.Helper()
	if v := w.verdict(device); v.State != state {
		w.t.Fatalf("%s is %q (%s), want %q", device, v.State, v.Because, state)
	}
}

// take asks the pool of this moment.
func (w *world) take(r gpu.Request) ([]gpu.DeviceID, bool) {
	return gpu.NewPool(w.verdicts(), w.last.Links, gpu.DefaultSharers).Take(r)
}

// ours says that a process is a task's.
func (w *world) ours(pid int, task string) {
	w.owners.Processes[gpu.ProcessKey{PID: pid, StartTicks: uint64(pid)}] = gpu.Owner{Kind: gpu.OwnerTask, Name: task}
}
