package gpu_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

func xid(n int) gpu.Event {
	return gpu.Event{Device: id(0), Kind: gpu.EventXID, XID: n, GI: -1, CI: -1}
}

func TestXIDPolicy(t *testing.T) {
	for _, tc := range []struct {
		xid  int
		want gpu.State
	}{
		{13, gpu.Free}, {31, gpu.Free}, {43, gpu.Free}, {45, gpu.Free}, {68, gpu.Free}, {130, gpu.Free},
		{63, gpu.Free}, {92, gpu.Free}, {121, gpu.Free}, {154, gpu.Free},
		{94, gpu.Doubted}, {74, gpu.Doubted}, {149, gpu.Doubted}, {999, gpu.Doubted}, {12345, gpu.Doubted},
		{48, gpu.Ill}, {64, gpu.Ill}, {95, gpu.Ill}, {109, gpu.Ill}, {119, gpu.Ill}, {140, gpu.Ill},
		{79, gpu.Away},
	} {
		w := newWorld(t)
		w.see(0, device(0))
		w.hear(xid(tc.xid))
		if v := w.verdict(id(0)); v.State != tc.want {
			t.Errorf("XID %d: %q, want %q", tc.xid, v.State, tc.want)
		}
	}
}

func TestSuspectIsWellAgainAfterAWhile(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	w.hear(xid(94))
	w.see(9*time.Minute, device(0))
	w.want(id(0), gpu.Doubted)
	w.see(time.Minute, device(0))
	w.want(id(0), gpu.Free)

	w.hear(xid(94)) // again within a day
	w.want(id(0), gpu.Ill)
	w.see(time.Hour, device(0))
	w.want(id(0), gpu.Ill)
	w.book = w.book.Resumed(id(0), w.now)
	w.want(id(0), gpu.Free)
}

func TestSuspicionsADayApartDoNotAddUp(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	for range 3 {
		w.hear(xid(94))
		w.want(id(0), gpu.Doubted)
		w.see(25*time.Hour, device(0))
		w.want(id(0), gpu.Free)
	}
}

func TestUnhealthyUntilItIsReset(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	w.hear(xid(119))
	w.see(24*time.Hour, device(0))
	w.want(id(0), gpu.Ill)
	anew := device(0)
	anew.Sample.EnergyMilliJ = new(uint64(3)) // it counts from the last start
	w.see(time.Minute, anew)
	w.want(id(0), gpu.Doubted)
	w.see(11*time.Minute, anew)
	w.want(id(0), gpu.Free)
}

func TestUnhealthyUntilAReboot(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	w.hear(xid(119))
	w.now = w.now.Add(time.Minute)
	w.last = snapshot(w.now, device(0))
	w.book = w.book.After(gpu.Observation{Now: w.now, Boot: "boot-2", Snapshot: w.last})
	w.want(id(0), gpu.Doubted)
}

func TestProgramsFaultsAddUpOverTasks(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	for _, task := range []string{"a", "a", "a", "b"} { // one task that fails again and again is one
		w.leases = []gpu.Lease{{Holder: task, Devices: []gpu.DeviceID{id(0)}}}
		w.see(time.Minute, device(0))
		w.hear(xid(31))
	}
	w.leases = nil
	w.see(time.Minute, device(0))
	w.see(time.Second, device(0)) // cooled
	w.want(id(0), gpu.Free)
	w.leases = []gpu.Lease{{Holder: "c", Devices: []gpu.DeviceID{id(0)}}}
	w.see(time.Minute, device(0))
	w.hear(xid(31))
	w.leases = nil
	w.see(time.Minute, device(0))
	w.want(id(0), gpu.Doubted)
}

func TestLinkTroubleBarsRequestsOfSeveral(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0), device(1))
	w.hear(xid(74))
	w.see(11*time.Minute, device(0), device(1))
	w.want(id(0), gpu.Free)
	if _, ok := w.take(gpu.Request{GPUs: 2}); ok {
		t.Error("two GPUs over a broken link")
	}
	if why := (gpu.Asker{}).Why(gpu.Request{GPUs: 2}, w.verdicts(), 4); !strings.Contains(why, "without its links") {
		t.Error(why)
	}
	if _, ok := w.take(gpu.Request{GPUs: 1}); !ok {
		t.Error("not even one GPU")
	}
}

func TestCountersAndFlags(t *testing.T) {
	for name, spoil := range map[string]func(*gpu.Sample){
		"uncorrected errors":   func(m *gpu.Sample) { m.ECCUncorrected = new(uint64(1)) },
		"no spare row":         func(m *gpu.Sample) { m.Remapped.Failed = true },
		"row at next reset":    func(m *gpu.Sample) { m.Remapped.Pending = true },
		"driver wants a reset": func(m *gpu.Sample) { m.RecoveryAction = new(1) },
	} {
		w := newWorld(t)
		w.see(0, device(0))
		d := device(0)
		spoil(&d.Sample)
		w.see(time.Second, d)
		if v := w.verdict(id(0)); v.State != gpu.Ill {
			t.Errorf("%s: %q", name, v.State)
		}
	}
}

// Errors that were there when we first looked are no news.
func TestOldErrorsAreNoNews(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	d.Sample.ECCUncorrected = new(uint64(17))
	w.see(0, d)
	w.see(time.Second, d)
	w.want(id(0), gpu.Free)
}

// Events that came while nobody listened show in the counters.
func TestErrorsWhileNobodyListened(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	text, err := json.Marshal(w.book)
	if err != nil {
		t.Fatal(err)
	}
	w.book = gpu.Book{}
	if err := json.Unmarshal(text, &w.book); err != nil {
		t.Fatal(err)
	}
	d := device(0)
	d.Sample.ECCUncorrected = new(uint64(1))
	w.see(time.Hour, d)
	w.want(id(0), gpu.Ill)
}

func TestLostDeviceBlindsNobody(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0), device(1))
	d := device(0)
	d.Sample = gpu.Sample{Failed: []gpu.Failure{{What: "nvmlDeviceGetMemoryInfo_v2", Code: gpu.GPUIsLost}}}
	w.see(time.Second, d, device(1))
	w.want(id(0), gpu.Away)
	w.want(id(1), gpu.Free)
	w.see(time.Second, device(0), device(1))
	w.want(id(0), gpu.Doubted) // back, and to be watched
}

func TestMissingDeviceIsShown(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0), device(1))
	w.see(time.Second, device(1))
	if v := w.verdict(id(0)); v.State != gpu.Away || v.Device != nil || v.Because == "" {
		t.Errorf("%+v", v)
	}
	w.see(time.Second, device(0), device(1))
	w.want(id(0), gpu.Doubted)
}

// A snapshot without a driver says nothing of any device.
func TestNoDriverIsNotMissing(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	before := w.book
	s := snapshot(w.now)
	s.Driver.Code = gpu.LibRMVersionDiffer
	w.observe(gpu.Observation{Snapshot: s})
	if !reflect.DeepEqual(before, w.book) {
		t.Errorf("before %+v\nafter  %+v", before, w.book)
	}
}

func TestCallsThatMustWork(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	d := device(0)
	d.Sample.Failed = []gpu.Failure{{What: "nvmlDeviceGetComputeRunningProcesses", Code: gpu.Unknown}}
	w.see(time.Second, d)
	w.want(id(0), gpu.Unread) // who is on it is not known, so nobody gets it
	w.see(time.Second, d)
	w.want(id(0), gpu.Unread)
	w.see(time.Second, d)
	w.want(id(0), gpu.Doubted)
}

func TestDrain(t *testing.T) {
	w := newWorld(t)
	w.see(0, device(0))
	w.book = w.book.Drained(id(0), gpu.Drain{Reason: "new fan", By: "uid 1000", At: w.now})
	w.see(time.Hour, device(0))
	w.want(id(0), gpu.Drained)
	w.book = w.book.Resumed(id(0), w.now)
	w.want(id(0), gpu.Free)
}

func TestInstancesShareTheFateOfTheirGPU(t *testing.T) {
	parent := device(0)
	parent.Kind = gpu.MIGParent
	w := newWorld(t)
	w.see(0, parent, instance(0, 1), instance(0, 2))
	w.want(id(0), gpu.Cut)
	w.want(instance(0, 1).ID, gpu.Free)
	w.hear(xid(119))
	w.want(instance(0, 1).ID, gpu.Ill)
	w.want(instance(0, 2).ID, gpu.Ill)
}

// What hits one program is not its neighbours' fault.
func TestFaultOfOneInstance(t *testing.T) {
	parent := device(0)
	parent.Kind = gpu.MIGParent
	w := newWorld(t)
	w.see(0, parent, instance(0, 1), instance(0, 2))
	contained := xid(94)
	contained.GI, contained.CI = 1, 0
	w.hear(contained)
	w.want(instance(0, 1).ID, gpu.Doubted)
	w.want(instance(0, 2).ID, gpu.Free)
}

// An ill device that is away for a moment comes back as ill as it went.
func TestAbsenceDoesNotHeal(t *testing.T) {
	lost := device(0)
	lost.Sample = gpu.Sample{Failed: []gpu.Failure{{What: "nvmlDeviceGetMemoryInfo_v2", Code: gpu.GPUIsLost}}}
	for name, away := range map[string][]gpu.Device{"missing": {device(1)}, "lost": {lost, device(1)}} {
		w := newWorld(t)
		w.see(0, device(0), device(1))
		w.hear(xid(119))
		w.see(time.Second, away...)
		w.want(id(0), gpu.Away)
		w.see(time.Second, device(0), device(1))
		w.see(time.Hour, device(0), device(1))
		if v := w.verdict(id(0)); v.State == gpu.Free {
			t.Errorf("%s: well again", name)
		}
		anew := device(0)
		anew.Sample.EnergyMilliJ = new(uint64(1))
		w.see(time.Second, anew, device(1))
		w.see(time.Hour, anew, device(1))
		w.want(id(0), gpu.Free)
	}
}

// Instances come and go with the layout; what was never leased is forgotten.
func TestLayoutMayChange(t *testing.T) {
	parent := device(0)
	parent.Kind = gpu.MIGParent
	w := newWorld(t)
	w.see(0, parent, instance(0, 1), instance(0, 2))
	w.leases = []gpu.Lease{{Holder: "a", Devices: []gpu.DeviceID{instance(0, 2).ID}}}
	w.see(time.Second, parent, instance(0, 1), instance(0, 2))
	w.see(time.Second, parent, instance(0, 3))
	if _, there := w.book.Devices[instance(0, 1).ID]; there {
		t.Error("an instance that nobody held is remembered")
	}
	w.want(instance(0, 2).ID, gpu.Away)
	w.want(instance(0, 3).ID, gpu.Free)
}
