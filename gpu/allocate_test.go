package gpu_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

func link(a, b, nvlinks int, level gpu.Level) gpu.Link {
	return gpu.Link{A: min(id(a), id(b)), B: max(id(a), id(b)), NVLinks: nvlinks, Level: level}
}

// pairs is a machine of n GPUs in two NUMA nodes, each two of them linked.
func pairs(n int) []gpu.Link {
	var links []gpu.Link
	for a := range n {
		for b := a + 1; b < n; b++ {
			l := link(a, b, 0, gpu.LevelSystem)
			if a/(n/2) == b/(n/2) {
				l.Level = gpu.LevelNode
			}
			if a/2 == b/2 {
				l.NVLinks, l.Level = 4, gpu.LevelSwitch
			}
			links = append(links, l)
		}
	}
	return links
}

// idle is a world with that many idle GPUs, seen.
func idle(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t)
	devices := make([]gpu.Device, n)
	for i := range devices {
		devices[i] = device(i)
	}
	w.see(0, devices...)
	return w
}

func ids(n ...int) []gpu.DeviceID {
	var out []gpu.DeviceID
	for _, i := range n {
		out = append(out, id(i))
	}
	return out
}

func TestWholeGPUsAreChosenByTheirLinks(t *testing.T) {
	for _, tc := range []struct {
		name  string
		taken []int
		n     int
		want  []gpu.DeviceID
	}{
		{"a linked pair", nil, 2, ids(0, 1)},
		{"the pair that is whole", []int{1}, 2, ids(2, 3)},
		{"one whose partner is gone", []int{2}, 1, ids(3)},
		{"two pairs of one node", []int{0, 1}, 4, ids(4, 5, 6, 7)},
		{"three leave a pair whole", nil, 3, ids(0, 1, 2)},
		{"all", nil, 8, ids(0, 1, 2, 3, 4, 5, 6, 7)},
		{"more than there are", []int{0}, 8, nil},
	} {
		w := idle(t, 8)
		w.last.Links = pairs(8)
		for _, i := range tc.taken {
			w.leases = append(w.leases, gpu.Lease{Holder: "x", Devices: ids(i)})
		}
		got, ok := w.take(gpu.Request{GPUs: tc.n})
		if !slices.Equal(got, tc.want) || ok != (tc.want != nil) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestModelsAreNotMixed(t *testing.T) {
	w := newWorld(t)
	small, large, other := device(0), device(1), device(2)
	small.Model, small.TotalBytes = "NVIDIA GeForce RTX 4090", 24*gib
	w.see(0, small, large, other)
	for _, tc := range []struct {
		r    gpu.Request
		want []gpu.DeviceID
	}{
		{gpu.Request{GPUs: 1}, ids(0)}, // the smallest that is enough
		{gpu.Request{GPUs: 2}, ids(1, 2)},
		{gpu.Request{GPUs: 3}, nil},
		{gpu.Request{Model: "rtx4090"}, ids(0)},
		{gpu.Request{GPUs: 1, Model: "a100"}, ids(1)},
		{gpu.Request{GPUs: 1, Model: "A100-80GB"}, ids(1)},
		{gpu.Request{GPUs: 1, Model: "a10"}, nil},
		{gpu.Request{GPUs: 1, Model: "H100"}, nil},
	} {
		if got, _ := w.take(tc.r); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.r, got, tc.want)
		}
	}
}

func TestSharesArePacked(t *testing.T) {
	w := idle(t, 3)
	pool := gpu.NewPool(w.verdicts(), nil, 3)
	take := func(r gpu.Request, want ...int) {
		t.Helper()
		got, ok := pool.Take(r)
		if !slices.Equal(got, ids(want...)) || ok != (len(want) > 0) {
			t.Errorf("%s: %v, want %v", r, got, want)
		}
	}
	take(gpu.Request{Bytes: 50 * gib}, 0)
	take(gpu.Request{Bytes: 40 * gib}, 1) // no room on the first
	take(gpu.Request{Bytes: 20 * gib}, 0) // the one with the least room
	take(gpu.Request{Bytes: 10 * gib}, 0)
	take(gpu.Request{Bytes: 1 * gib}, 1) // three are enough for one
	take(gpu.Request{GPUs: 1}, 2)        // never one that is shared
	take(gpu.Request{Bytes: 70 * gib})   // and never one that is held whole
}

func TestShareLeavesRoomForWhatOthersMayStillTake(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "a", Devices: ids(0), Bytes: 40 * gib}}
	w.ours(100, "a")
	d := device(0)
	runs(&d, 100, 10*gib)
	w.see(0, d)
	if room := w.verdict(id(0)).Room; room != 40*gib {
		t.Errorf("room %s, want 40 GiB", gpu.Size(room))
	}
	greedy := device(0)
	runs(&greedy, 100, 60*gib)
	w.see(time.Second, greedy)
	if room := w.verdict(id(0)).Room; room != 20*gib {
		t.Errorf("beside one that took more than its share: room %s, want 20 GiB", gpu.Size(room))
	}
}

func TestExclusiveModeIsForOne(t *testing.T) {
	w := newWorld(t)
	d := device(0)
	d.Sample.ComputeMode = gpu.ComputeExclusive
	w.see(0, d)
	if _, ok := w.take(gpu.Request{Bytes: gib}); ok {
		t.Error("a share of a GPU that lets in one process")
	}
	if _, ok := w.take(gpu.Request{GPUs: 1}); !ok {
		t.Error("not even whole")
	}
	d.Sample.ComputeMode = gpu.ComputeProhibited
	w.see(time.Second, d)
	w.want(id(0), gpu.Prohibited)
}

func TestInstancesArePackedByProfile(t *testing.T) {
	a, b := device(0), device(1)
	a.Kind, b.Kind = gpu.MIGParent, gpu.MIGParent
	large := instance(1, 3)
	large.Profile = "3g.40gb"
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "x", Devices: []gpu.DeviceID{large.ID}}}
	w.see(0, a, instance(0, 1), b, instance(1, 1), large)
	if _, ok := w.take(gpu.Request{GPUs: 1}); ok {
		t.Error("an instance as a whole GPU")
	}
	if got, _ := w.take(gpu.Request{MIG: "1g.10gb"}); !slices.Equal(got, []gpu.DeviceID{instance(0, 1).ID}) {
		t.Errorf("first: %v", got)
	}
	pool := gpu.NewPool(w.verdicts(), nil, 4)
	for range 2 {
		pool.Take(gpu.Request{MIG: "1g.10gb"})
	}
	if got, ok := pool.Take(gpu.Request{MIG: "1g.10gb"}); ok {
		t.Errorf("a third of two: %v", got)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	w := idle(t, 2)
	for _, r := range []gpu.Request{
		{GPUs: 2, Bytes: gib}, {GPUs: 2, MIG: "1g.10gb"}, {Bytes: gib, MIG: "1g.10gb"}, {GPUs: -1}, {GPUs: 1, Bytes: -1},
	} {
		if r.Problem() == "" {
			t.Errorf("%+v: no problem", r)
		}
		if r.GPUs < 0 {
			continue
		}
		if got, ok := w.take(r); ok {
			t.Errorf("%+v: %v", r, got)
		}
	}
	if got, ok := w.take(gpu.Request{}); !ok || got != nil {
		t.Errorf("nothing: %v, %v", got, ok)
	}
}

func TestWhy(t *testing.T) {
	w := newWorld(t)
	w.leases = []gpu.Lease{{Holder: "a", Devices: ids(1, 2)}, {Holder: "b", Devices: ids(3)}}
	foreign := device(4)
	runs(&foreign, 4242, 30*gib)
	w.now = w.now.Add(-2 * time.Hour).Add(2 * time.Minute)
	w.see(0, device(0), device(1), device(2), device(3), foreign, device(5))
	w.hear(gpu.Event{Device: id(5), Kind: gpu.EventXID, XID: 48})
	asker := gpu.Asker{UID: 1000}
	for r, want := range map[gpu.Request]string{
		{GPUs: 2}: "needs 2 GPUs: 1 free, 3 held by tasks a, b, " +
			"1 in use by another user's python (uid 1001, pid 4242, 30 GiB) since 10:02, 1 unhealthy (XID 48: memory lost a value)",
		{GPUs: 1, Model: "H100"}: "needs 1 GPU of model H100: this machine has NVIDIA A100-SXM4-80GB",
		{MIG: "1g.10gb"}:         "needs a MIG instance 1g.10gb: no GPU of this machine is cut into MIG instances",
		{Bytes: 90 * gib}: "needs 90 GiB of a GPU: 1 free with room for 80 GiB, 3 held by tasks a, b, " +
			"1 in use by another user's python (uid 1001, pid 4242, 30 GiB) since 10:02, 1 unhealthy (XID 48: memory lost a value)",
		{GPUs: 2, Bytes: 1}: "memory is given of one GPU: ask for whole GPUs, or for the memory of one",
	} {
		if got := asker.Why(r, w.verdicts(), 4); got != want {
			t.Errorf("%s:\n got %s\nwant %s", r, got, want)
		}
	}
	asker.UID = 1001
	if v := w.verdict(id(4)); v.Because != "python (uid 1001, pid 4242, 30 GiB)" {
		t.Errorf("because %q", v.Because)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1 << 20: "1 MiB", gib: "1 GiB", 3 * gib / 2: "1.5 GiB", 30 * gib: "30 GiB", gib + 1: "1 GiB"} {
		if got := gpu.Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
