//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

const gib = int64(1) << 30

func TestSnapshot(t *testing.T) {
	_, r := opened(t, `
driver_version = 550.90.07
[gpu 0]
name = NVIDIA H100 80GB HBM3
serial = 17
pci = 0:1b:00
minor = 3
cc = 9.0
memory_used = 3GiB
util_gpu = 93
util_mem = 40
temp = 61
power_mw = 512000
energy_mj = 77
clock_reasons = 4
compute_mode = exclusive_process
ecc_uncorrected = 2
remapped = 1 2 1 0
recovery_action = 4
proc = 4243 na
proc = 4242 3GiB
[gpu 1]
pci = 0:03:00
`)
	s := r.Snapshot()
	if s.Seq != 1 || s.Source != gpu.SourceNVML || s.Driver.Version != "550.90.07" || s.Driver.CUDA != "12.4" || s.Driver.Code != gpu.Success {
		t.Errorf("driver: %+v", s.Driver)
	}
	if len(s.Devices) != 2 {
		t.Fatalf("%d devices", len(s.Devices))
	}
	// By PCI address, whatever NVML's order.
	first, d := s.Devices[0], s.Devices[1]
	if first.Index != 1 || first.CUDAIndex != 0 || d.Index != 0 || d.CUDAIndex != 1 {
		t.Errorf("order: %+v, %+v", first, d)
	}
	if d.ID != gpu.DeviceID(gputest.UUID(0)) || d.Model != "NVIDIA H100 80GB HBM3" || d.Serial != "17" || d.PCI != "0000:1b:00.0" ||
		d.Minor != 3 || d.ComputeCap != "9.0" || d.Kind != gpu.Whole || d.TotalBytes != 80*gib || !*d.ECC || !*d.Persistence || *d.MIGMode {
		t.Errorf("facts: %+v", d)
	}
	m := d.Sample
	if *m.UsedBytes != 3*gib || *m.ReservedBytes != 600<<20 || *m.FreeBytes != 77*gib-600<<20 || m.UsedIncludesReserve {
		t.Errorf("memory: %d used, %d free, %d reserved", *m.UsedBytes, *m.FreeBytes, *m.ReservedBytes)
	}
	if *m.GPUPercent != 93 || *m.MemoryPercent != 40 || *m.TemperatureC != 61 || *m.PowerMilliW != 512000 || *m.EnergyMilliJ != 77 || *m.ClockReasons != 4 {
		t.Errorf("load: %+v", m)
	}
	if m.ComputeMode != gpu.ComputeExclusive || *m.ECCUncorrected != 2 || *m.Remapped != (gpu.RemappedRow{Corrected: 1, Uncorrected: 2, Pending: true}) || *m.RecoveryAction != 4 {
		t.Errorf("health: %+v, rows %+v", m, m.Remapped)
	}
	if len(m.Processes) != 2 || m.Processes[0].PID != 4242 || *m.Processes[0].UsedBytes != 3*gib || m.Processes[0].GI != -1 || m.Processes[1].UsedBytes != nil {
		t.Errorf("processes: %+v", m.Processes)
	}
	if len(m.Failed) != 0 || first.Sample.ProcessesAt == nil {
		t.Errorf("failed: %+v", m.Failed)
	}
}

// What a device has not is nil, and no failure; what is refused is a failure of
// that one field.
func TestFieldsFailAlone(t *testing.T) {
	_, r := opened(t, `
[gpu 0]
ecc = -1
recovery_action = -1
return.nvmlDeviceGetUtilizationRates = NOT_SUPPORTED
return.nvmlDeviceGetPowerUsage = UNKNOWN
return.nvmlDeviceGetTemperature = FUNCTION_NOT_FOUND
`)
	m := r.Snapshot().Devices[0].Sample
	if m.ECCUncorrected != nil || m.RecoveryAction != nil || m.GPUPercent != nil || m.PowerMilliW != nil || m.TemperatureC != nil {
		t.Errorf("made up: %+v", m)
	}
	if want := []gpu.Failure{{What: "nvmlDeviceGetPowerUsage", Code: gpu.Unknown}}; !slices.Equal(m.Failed, want) {
		t.Errorf("failed: %v, want %v", m.Failed, want)
	}
	if m.PowerCapMilliW == nil || m.UsedBytes == nil {
		t.Error("other fields are gone, too")
	}
}

func TestLostGPUBlindsNobody(t *testing.T) {
	m, r := opened(t, gputest.GPUs(8))
	r.Snapshot()
	m.Set(strings.Replace(gputest.GPUs(8), "[gpu 3]", "[gpu 3]\nlost = 1", 1))
	s := r.Snapshot()
	for _, d := range s.Devices {
		if want := d.Index == 3; d.Lost().Lost() != want {
			t.Errorf("GPU %d: lost with %s, want %v", d.Index, d.Lost(), want)
		}
	}
	// To who asks only now, the driver does not even say which it is.
	late := New(r.options())
	defer late.Close()
	s = late.Snapshot()
	if len(s.Devices) != 7 || !slices.Equal(s.Unreadable, []gpu.Unreadable{{Index: 3, Code: gpu.GPUIsLost}}) {
		t.Errorf("%d devices, unreadable %v", len(s.Devices), s.Unreadable)
	}
}

// options are what another Reader on the same library is made with.
func (r *Reader) options() Options { return Options{Library: r.path} }

func TestGPUsMayCome(t *testing.T) {
	m, r := opened(t, gputest.GPUs(1))
	if n := len(r.Snapshot().Devices); n != 1 {
		t.Fatalf("%d devices", n)
	}
	m.Set(gputest.GPUs(2) + "nvlink.0 = 4\n")
	s := r.Snapshot()
	if len(s.Devices) != 2 || len(s.Links) != 1 {
		t.Errorf("%d devices, links %v", len(s.Devices), s.Links)
	}
}

const cut = `
[gpu 0]
mig = 1
proc = 10 2GiB 3 0
proc = 11 1GiB 5 0
[mig 0 1]
gi = 3
profile = 2g.20gb
memory_total = 20GiB
memory_used = 2GiB
sms = 28
[mig 0 4]
gi = 5
uuid = MIG-five
`

func TestMIG(t *testing.T) {
	m, r := opened(t, cut)
	s := r.Snapshot()
	if len(s.Devices) != 3 {
		t.Fatalf("%d devices", len(s.Devices))
	}
	parent, a, b := s.Devices[0], s.Devices[1], s.Devices[2]
	if parent.Kind != gpu.MIGParent || !*parent.MIGMode || parent.CUDAIndex != 0 || parent.Sample.GPUPercent != nil {
		t.Errorf("parent: %+v", parent)
	}
	if a.Kind != gpu.MIG || a.Parent != parent.ID || a.Profile != "2g.20gb" || a.Model != "NVIDIA A100-SXM4-80GB" ||
		a.GI != 3 || a.CI != 0 || a.SMs != 28 || a.TotalBytes != 20*gib || *a.Sample.UsedBytes != 2*gib || a.CUDAIndex != -1 {
		t.Errorf("instance: %+v", a)
	}
	if b.ID != "MIG-five" || b.GI != 5 {
		t.Errorf("instance: %+v", b)
	}
	if len(a.Sample.Processes) != 1 || a.Sample.Processes[0].PID != 10 || len(b.Sample.Processes) != 1 || b.Sample.Processes[0].PID != 11 {
		t.Errorf("processes: %+v, %+v", a.Sample.Processes, b.Sample.Processes)
	}
	// A mode that cannot be read is not "whole": that would give the GPU away under
	// its instances.
	m.Set(strings.Replace(cut, "mig = 1", "mig = 1\nreturn.nvmlDeviceGetMigMode = UNKNOWN", 1))
	if s := r.Snapshot(); s.Devices[0].Kind != gpu.MIGParent || len(s.Devices) != 3 {
		t.Errorf("with its mode unread: %q with %d devices", s.Devices[0].Kind, len(s.Devices))
	}
	m.Set(gputest.GPUs(1))
	if s := r.Snapshot(); s.Devices[0].Kind != gpu.Whole || len(s.Devices) != 1 {
		t.Errorf("made whole: %q with %d devices", s.Devices[0].Kind, len(s.Devices))
	}
}

func TestTopology(t *testing.T) {
	_, r := opened(t, `
[gpu 0]
nvlink.1 = 4
topo.1 = PIX
topo.2 = NODE
[gpu 1]
nvlink.0 = 4
topo.0 = PIX
[gpu 2]
nvlink.1 = 2
topo.0 = NODE
`)
	s := r.Snapshot()
	id := func(i int) gpu.DeviceID { return gpu.DeviceID(gputest.UUID(i)) }
	want := []gpu.Link{
		{A: id(0), B: id(1), Level: gpu.LevelSwitch, NVLinks: 4},
		{A: id(0), B: id(2), Level: gpu.LevelNode},
		{A: id(1), B: id(2), Level: gpu.LevelSystem}, // seen from one side only: not to be relied upon
	}
	if !slices.Equal(s.Links, want) {
		t.Errorf("links %v\nwant  %v", s.Links, want)
	}
}

func TestNVSwitch(t *testing.T) {
	_, r := opened(t, strings.ReplaceAll(gputest.GPUs(4), "]", "]\nswitched = 18"))
	s := r.Snapshot()
	if len(s.Links) != 6 {
		t.Fatalf("links %v", s.Links)
	}
	for _, l := range s.Links {
		if l.NVLinks != 18 {
			t.Errorf("%+v, want 18 NVLinks", l)
		}
	}
}

func TestEvents(t *testing.T) {
	m, r := opened(t, gputest.GPUs(2))
	m.Event("xid 0 31") // before anybody listened
	r.Snapshot()
	e := r.Listen()
	if e == nil {
		t.Fatal("nothing to hear")
	}
	defer e.Close()
	if got := e.Wait(20 * time.Millisecond); got != nil {
		t.Errorf("an event from before: %+v", got)
	}
	m.Event("sbe 0") // not asked for
	m.Event("xid 1 79")
	m.Event("dbe 0")
	m.Event("xid 0 43 3 1")
	m.Event("error 999")
	var got []string
	for range 4 {
		ev := e.Wait(10 * time.Second)
		if ev == nil {
			t.Fatalf("no more than %v", got)
		}
		got = append(got, fmt.Sprintf("%s %s %d %d/%d %s", ev.Kind, strings.TrimPrefix(string(ev.Device), gputest.UUID(0)[:39]), ev.XID, ev.GI, ev.CI, ev.Code))
	}
	want := []string{"xid 1 79 -1/-1 SUCCESS", "ecc 0 0 -1/-1 SUCCESS", "xid 0 43 3/1 SUCCESS", "lost  0 -1/-1 UNKNOWN"}
	if !slices.Equal(got, want) {
		t.Errorf("heard %q\nwant  %q", got, want)
	}
}

func TestNothingToHear(t *testing.T) {
	_, r := opened(t, "[gpu 0]\nevents = 0\n")
	r.Snapshot()
	if e := r.Listen(); e != nil {
		t.Error("listens to a GPU that tells nothing")
		e.Close()
	}
}

// Only questions are asked: nothing of the machine is changed.
func TestOnlyReads(t *testing.T) {
	m, r := opened(t, cut)
	r.Snapshot()
	if e := r.Listen(); e != nil {
		e.Wait(time.Millisecond)
		e.Close()
	}
	calls := m.Calls()
	if len(calls) < 30 {
		t.Fatalf("calls: %v", calls)
	}
	harmless := []string{"nvmlInit_v2", "nvmlEventSetCreate", "nvmlEventSetFree", "nvmlEventSetWait_v2", "nvmlDeviceRegisterEvents"}
	for _, c := range calls {
		if !strings.Contains(c, "Get") && !slices.Contains(harmless, c) {
			t.Errorf("%s is called", c)
		}
	}
}

// What takes the driver long is not asked for each time.
func TestDearCallsAreSeldom(t *testing.T) {
	m, o := on(t, gputest.GPUs(1))
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return now }
	r := New(o)
	defer r.Close()
	asked := func() (n int) {
		for _, c := range m.Calls() {
			if c == "nvmlDeviceGetTotalEnergyConsumption" {
				n++
			}
		}
		return n
	}
	r.Snapshot()
	now = now.Add(59 * time.Second)
	s := r.Snapshot()
	if n := asked(); n != 1 {
		t.Errorf("asked %d times within a minute", n)
	}
	if at := s.Devices[0].Sample.EnergyAt; at == nil || !at.Equal(now.Add(-59*time.Second)) || s.Devices[0].ECC == nil {
		t.Errorf("energy as of %v", at)
	}
	now = now.Add(time.Second)
	if r.Snapshot(); asked() != 2 {
		t.Errorf("asked %d times after a minute", asked())
	}
}

func TestPendingNamesTheCall(t *testing.T) {
	_, r := opened(t, "[gpu 0]\ndelay_us.nvmlDeviceGetPowerUsage = 300000\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Snapshot()
	}()
	for {
		select {
		case <-done:
			t.Fatal("the call was never pending")
		default:
		}
		if c := r.Pending(); c != nil && c.Name == "nvmlDeviceGetPowerUsage" && c.Device == gpu.DeviceID(gputest.UUID(0)) {
			break
		}
	}
	<-done
	if c := r.Pending(); c != nil {
		t.Errorf("still pending: %+v", c)
	}
}

func BenchmarkSnapshotOf8(b *testing.B) {
	m := gputest.New(b, gputest.GPUs(8))
	for _, pair := range m.Env()[:1] {
		name, value, _ := strings.Cut(pair, "=")
		b.Setenv(name, value)
	}
	r := New(Options{Library: gputest.Library(b, gputest.Newest)})
	defer r.Close()
	for b.Loop() {
		r.Snapshot()
	}
}
