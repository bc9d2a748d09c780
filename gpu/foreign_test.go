package gpu_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

func TestForeignProcessBarsAndLeavesAfterQuiet(t *testing.T) {
	w := newWorld(t)
	busy := device(0)
	runs(&busy, 4242, 30*gib)
	w.see(0, busy)
	w.want(id(0), gpu.Foreign)
	w.see(5*time.Second, device(0))
	w.want(id(0), gpu.Foreign) // it may be between two steps of somebody's script
	w.see(24*time.Second, device(0))
	w.want(id(0), gpu.Foreign)
	w.see(2*time.Second, device(0))
	w.want(id(0), gpu.Free)
}

func TestSmallAndHarmlessProcessesBarNobody(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	runs(&d, 10, 100<<20)
	runs(&d, 11, 400<<20)
	d.Sample.Processes[1].Comm = "Xorg"
	w.see(0, d)
	w.want(id(0), gpu.Free)
}

func TestProcessOfUnknownMemoryBars(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	d.Sample.Processes = []gpu.Process{{PID: 7, UID: -1, GI: -1, CI: -1}}
	w.see(0, d)
	w.want(id(0), gpu.Foreign)
}

func TestUnexplainedMemoryBarsAtTheSecondLook(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	d.Sample.UsedBytes, d.Sample.FreeBytes = new(12*gib), new(68*gib)
	w.see(0, d)
	w.want(id(0), gpu.Free)
	w.see(5*time.Second, d)
	w.want(id(0), gpu.Foreign)
	if v := w.verdict(id(0)); v.Because != "12 GiB in use by no visible process" {
		t.Errorf("because %q", v.Because)
	}
}

func TestDriversOwnShareIsNotForeign(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	d.Sample.UsedBytes, d.Sample.UsedIncludesReserve = new(int64(900<<20)), true
	w.see(0, d)
	w.see(time.Second, d)
	w.want(id(0), gpu.Free)
}

// A driver that swaps the fields of its list (535.43 to 535.98) lists pids that
// do not exist: then only the memory counts.
func TestListsOfGoneProcessesAreNotBelieved(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	d.Sample.Processes = []gpu.Process{{PID: 7, UID: -1, GI: -1, CI: -1, Gone: true, UsedBytes: new(int64(4))}, {PID: 8, UID: -1, GI: -1, CI: -1}}
	w.see(0, d)
	w.see(5*time.Second, d)
	w.see(time.Minute, d)
	w.want(id(0), gpu.Free)
	d.Sample.UsedBytes = new(5 * gib)
	w.see(time.Second, d)
	w.see(time.Second, d)
	w.want(id(0), gpu.Foreign)
}

func TestContendedLease(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "train", Devices: []gpu.DeviceID{id(0)}}}
	w.ours(100, "train")
	d := device(0)
	runs(&d, 100, 10*gib)
	w.see(0, d)
	if v := w.verdict(id(0)); v.State != gpu.Held || v.Contended() {
		t.Fatalf("alone: %+v", v)
	}
	runs(&d, 4242, gib)
	w.see(time.Second, d)
	v := w.verdict(id(0))
	if v.State != gpu.Held || !v.Contended() || v.Occupants[0].PID != 4242 {
		t.Fatalf("with another: %+v", v)
	}
}

// A pid that was ours and was given again is not ours.
func TestReusedPIDIsForeign(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "train", Devices: []gpu.DeviceID{id(0)}}}
	w.ours(100, "train")
	d := device(0)
	runs(&d, 100, gib)
	d.Sample.Processes[0].StartTicks++
	w.see(0, d)
	if v := w.verdict(id(0)); !v.Contended() {
		t.Fatalf("%+v", v)
	}
}

// Our own task on a GPU that it has no lease for is in the way like anybody, and
// is gone when it is gone.
func TestOwnTaskOnTheWrongDevice(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "train", Devices: []gpu.DeviceID{id(0)}}}
	w.ours(100, "train")
	stray := device(1)
	runs(&stray, 100, gib)
	w.see(0, device(0), stray)
	w.want(id(1), gpu.Foreign)
	if v := w.verdict(id(1)); !strings.Contains(v.Because, "task train's python") {
		t.Errorf("because %q", v.Because)
	}
	w.see(time.Second, device(0), device(1))
	w.want(id(1), gpu.Free)
}

func TestCoolingUntilTheMemoryIsBack(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "train", Devices: []gpu.DeviceID{id(0)}}}
	w.ours(100, "train")
	d := device(0)
	runs(&d, 100, 10*gib)
	w.see(0, d)
	w.leases = nil
	w.want(id(0), gpu.CoolingOff) // even before the book has heard of it
	w.see(time.Second, d)
	w.want(id(0), gpu.CoolingOff)
	left := device(0)
	left.Sample.UsedBytes = new(9 * gib)
	w.see(time.Second, left)
	w.want(id(0), gpu.CoolingOff)
	w.see(time.Second, device(0))
	w.want(id(0), gpu.Free)
}

func TestMemoryNotReleasedMakesSuspect(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "train", Devices: []gpu.DeviceID{id(0)}}}
	d := device(0)
	d.Sample.UsedBytes = new(9 * gib)
	w.see(0, d)
	w.leases = nil
	w.see(time.Second, d)
	w.see(59*time.Second, d)
	w.want(id(0), gpu.CoolingOff)
	w.see(2*time.Second, d)
	w.want(id(0), gpu.Doubted)
	if v := w.verdict(id(0)); v.Because != "memory not released by task train" {
		t.Errorf("because %q", v.Because)
	}
}

func TestOwners(t *testing.T) {
	const container = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	a := gpu.Attribution{
		Processes:  map[gpu.ProcessKey]gpu.Owner{{PID: 5, StartTicks: 50}: {Kind: gpu.OwnerTask, Name: "a"}},
		Containers: map[string]gpu.Owner{container: {Kind: gpu.OwnerService, Name: "ollama"}},
	}
	other := strings.Replace(container, "0", "1", 1)
	for _, tc := range []struct {
		name string
		p    gpu.Process
		want gpu.Owner
	}{
		{"a task's", gpu.Process{PID: 5, StartTicks: 50}, gpu.Owner{Kind: gpu.OwnerTask, Name: "a"}},
		{"its pid, later", gpu.Process{PID: 5, StartTicks: 51}, gpu.Owner{Kind: gpu.OwnerUser}},
		{"its pid, when unknown", gpu.Process{PID: 5}, gpu.Owner{Kind: gpu.OwnerUser}},
		{"our container", gpu.Process{PID: 6, Cgroup: "/docker/" + container}, gpu.Owner{Kind: gpu.OwnerService, Name: "ollama"}},
		{"under systemd", gpu.Process{PID: 6, Cgroup: "/system.slice/docker-" + container + ".scope"}, gpu.Owner{Kind: gpu.OwnerService, Name: "ollama"}},
		{"somebody's container", gpu.Process{PID: 6, Cgroup: "/libpod-" + other + "/x"}, gpu.Owner{Kind: gpu.OwnerContainer, Name: other[:12]}},
		{"too long for one", gpu.Process{PID: 6, Cgroup: "/" + container + "0"}, gpu.Owner{Kind: gpu.OwnerUser}},
		{"Slurm", gpu.Process{PID: 6, Cgroup: "/slurm/uid_1000/job_42/step_0"}, gpu.Owner{Kind: gpu.OwnerSlurm, Name: "42"}},
		{"not Slurm", gpu.Process{PID: 6, Cgroup: "/user.slice/job_x"}, gpu.Owner{Kind: gpu.OwnerUser}},
	} {
		if got := a.Owner(tc.p); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
	a.Blind = true
	if got := a.Owner(gpu.Process{PID: 5, StartTicks: 50}); got.Kind != gpu.OwnerUser {
		t.Errorf("in a pid namespace: %+v", got)
	}
}
