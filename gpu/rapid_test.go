package gpu_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/gpu"
)

var models = []string{"NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090"}

// drawDevice draws a GPU in any condition.
func drawDevice(t *rapid.T, n int) gpu.Device {
	d := device(n)
	if rapid.Bool().Draw(t, "small") {
		d.Model, d.TotalBytes = models[1], 24*gib
		d.Sample.FreeBytes = new(24 * gib)
	}
	switch rapid.IntRange(0, 9).Draw(t, "condition") {
	case 0:
		runs(&d, 4000+n, rapid.Int64Range(0, 20).Draw(t, "foreign")*gib)
	case 1:
		d.Sample.ComputeMode = gpu.ComputeProhibited
	case 2:
		d.Sample.RecoveryAction = new(1)
	case 3:
		d.Sample = gpu.Sample{Failed: []gpu.Failure{{What: "nvmlDeviceGetMemoryInfo_v2", Code: gpu.GPUIsLost}}}
	}
	return d
}

func drawRequest(t *rapid.T) gpu.Request {
	r := gpu.Request{Model: rapid.SampledFrom([]string{"", "", "a100", "rtx4090", "h100"}).Draw(t, "model")}
	if rapid.Bool().Draw(t, "share") {
		r.Bytes = rapid.Int64Range(1, 85).Draw(t, "GiB") * gib
	} else {
		r.GPUs = rapid.IntRange(1, 9).Draw(t, "gpus")
	}
	return r
}

func drawWorld(t *rapid.T) *world {
	n := rapid.IntRange(1, 8).Draw(t, "devices")
	w := &world{now: noon}
	var devices []gpu.Device
	for i := range n {
		devices = append(devices, drawDevice(t, i))
	}
	w.last = snapshot(noon, devices...)
	for a := range n {
		for b := a + 1; b < n; b++ {
			w.last.Links = append(w.last.Links, link(a, b, rapid.IntRange(0, 2).Draw(t, "nvlinks"),
				rapid.SampledFrom([]gpu.Level{gpu.LevelSwitch, gpu.LevelNode, gpu.LevelSystem}).Draw(t, "level")))
		}
	}
	w.observe(gpu.Observation{Snapshot: w.last})
	return w
}

// No device is given whole to two, and shares fit into the memory.
func TestNothingIsGivenTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		sharers := rapid.IntRange(1, 4).Draw(t, "sharers")
		pool := gpu.NewPool(w.verdicts(), w.last.Links, sharers)
		whole, shared, users := map[gpu.DeviceID]bool{}, map[gpu.DeviceID]int64{}, map[gpu.DeviceID]int{}
		for range rapid.IntRange(1, 30).Draw(t, "requests") {
			r := drawRequest(t)
			got, ok := pool.Take(r)
			if !ok {
				continue
			}
			if r.Bytes == 0 && len(got) != r.GPUs || r.Bytes > 0 && len(got) != 1 {
				t.Fatalf("%s got %v", r, got)
			}
			sort := w.last.Device(got[0]).Model
			for _, d := range got {
				dev := w.last.Device(d)
				if dev.Model != sort {
					t.Fatalf("%s got two models", r)
				}
				if whole[d] || r.Bytes == 0 && users[d] > 0 {
					t.Fatalf("%s is given to two, the last %s", d, r)
				}
				whole[d] = r.Bytes == 0
				users[d]++
				if shared[d] += r.Bytes; shared[d] > *dev.Sample.FreeBytes || users[d] > sharers {
					t.Fatalf("%s: %d share %s of %s", d, users[d], gpu.Size(shared[d]), gpu.Size(dev.TotalBytes))
				}
				if state := verdictOf(w, d).State; state != gpu.Free {
					t.Fatalf("%s was given out while %q", d, state)
				}
			}
		}
	})
}

func verdictOf(w *world, id gpu.DeviceID) gpu.Verdict {
	all := w.verdicts()
	return all[slices.IndexFunc(all, func(v gpu.Verdict) bool { return v.ID == id })]
}

// A request that fits an idle machine gets what it asks for.
func TestFeasibleLoneRequestIsPlaced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		r := drawRequest(t)
		asked := map[string]string{"": "", "a100": models[0], "rtx4090": models[1], "h100": "none"}[r.Model]
		fit := map[string]int{}
		for _, v := range w.verdicts() {
			if v.State == gpu.Free && (asked == "" || v.Model == asked) && r.Bytes <= *v.Device.Sample.FreeBytes {
				fit[v.Model]++
			}
		}
		feasible := false
		for _, n := range fit {
			feasible = feasible || n >= max(1, r.GPUs)
		}
		if _, ok := w.take(r); ok != feasible {
			t.Fatalf("%s: placed %v, feasible %v", r, ok, feasible)
		}
	})
}

// The same snapshot gives the same plan, also after it went through JSON, and
// whatever the order in which leases are told.
func TestSameSnapshotSamePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for i := range rapid.IntRange(0, 4).Draw(t, "leases") {
			l := gpu.Lease{Holder: fmt.Sprint("t", i), Devices: ids(rapid.IntRange(0, 7).Draw(t, "device"))}
			if rapid.Bool().Draw(t, "share") {
				l.Bytes = gib
			}
			w.leases = append(w.leases, l)
		}
		var requests []gpu.Request
		for range 5 {
			requests = append(requests, drawRequest(t))
		}
		plan := func() (out [][]gpu.DeviceID) {
			pool := gpu.NewPool(w.verdicts(), w.last.Links, 4)
			for _, r := range requests {
				got, _ := pool.Take(r)
				out = append(out, got)
			}
			return out
		}
		first := plan()
		again(t, &w.last)
		again(t, &w.book)
		slices.Reverse(w.leases)
		if second := plan(); !reflect.DeepEqual(first, second) {
			t.Fatalf("first %v\nthen %v", first, second)
		}
	})
}

// again sends a value through JSON, which must not change it.
func again[T any](t *rapid.T, v *T) {
	text, err := json.Marshal(*v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if text2, _ := json.Marshal(back); string(text) != string(text2) {
		t.Fatalf("JSON is not stable:\n%s\n%s", text, text2)
	}
	*v = back
}

// The choice among all subsets is the best there is, as a plain search sees it.
func TestChoiceIsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 7).Draw(t, "devices")
		w := &world{now: noon}
		var devices []gpu.Device
		for i := range n {
			devices = append(devices, device(i))
		}
		w.last = snapshot(noon, devices...)
		worth := map[[2]int]int{}
		for a := range n {
			for b := a + 1; b < n; b++ {
				k := rapid.IntRange(0, 3).Draw(t, "nvlinks")
				w.last.Links = append(w.last.Links, link(a, b, k, gpu.LevelNode))
				worth[[2]int{a, b}] = k
			}
		}
		w.observe(gpu.Observation{Snapshot: w.last})
		want := rapid.IntRange(1, n).Draw(t, "wanted")
		got, ok := w.take(gpu.Request{GPUs: want})
		if !ok {
			t.Fatal("not placed")
		}
		sum := func(in func(int) bool) (s int) {
			for pair, k := range worth {
				if in(pair[0]) && in(pair[1]) {
					s += k
				}
			}
			return s
		}
		in := func(mask int) func(int) bool { return func(i int) bool { return mask>>i&1 == 1 } }
		chosen := 0
		for _, d := range got {
			chosen |= 1 << w.last.Device(d).Index
		}
		for mask := range 1 << n {
			size := 0
			for i := range n {
				size += mask >> i & 1
			}
			if size != want {
				continue
			}
			inside, best := sum(in(mask)), sum(in(chosen))
			rest, bestRest := sum(in(^mask)), sum(in(^chosen))
			if inside > best || inside == best && rest > bestRest {
				t.Fatalf("%v has %d inside and leaves %d; mask %b has %d and %d", got, best, bestRest, mask, inside, rest)
			}
		}
	})
}

// Whatever happens to a device, it is free only when the last look saw nobody on
// it, and nothing sticky was said since its last reset.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{now: noon}
		d := device(0)
		sticky := false
		energy := uint64(1000)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(1, 1200).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				if w.last != nil {
					w.tell(gpu.Event{Device: id(0), Kind: gpu.EventXID, XID: 119, At: w.now})
					sticky = true
				}
			case 1:
				energy, sticky = 1, false
			case 6:
				w.last = snapshot(w.now)
				w.observe(gpu.Observation{Snapshot: w.last})
				continue
			case 7:
				lost := device(0)
				lost.Sample = gpu.Sample{Failed: []gpu.Failure{{What: "nvmlDeviceGetMemoryInfo_v2", Code: gpu.ResetRequired}}}
				w.last = snapshot(w.now, lost)
				w.observe(gpu.Observation{Snapshot: w.last})
				continue
			case 2:
				if len(d.Sample.Processes) == 0 {
					runs(&d, 4242, 10*gib)
				}
			case 3:
				d = device(0)
			case 4:
				if w.last != nil {
					w.book, sticky = w.book.Resumed(id(0), w.now), false
				}
			default:
				energy += 50
			}
			d.Sample.EnergyMilliJ = new(energy)
			w.last = snapshot(w.now, d)
			w.observe(gpu.Observation{Snapshot: w.last})
			if v := verdictOf(w, id(0)); v.State == gpu.Free && (sticky || len(d.Sample.Processes) > 0) {
				t.Fatalf("free with sticky %v and processes %v", sticky, d.Sample.Processes)
			}
		}
	})
}

func (w *world) tell(e gpu.Event) { w.observe(gpu.Observation{Events: []gpu.Event{e}}) }

func TestCodesSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := gpu.Code(rapid.IntRange(0, 1200).Draw(t, "code"))
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back gpu.Code
		if err := json.Unmarshal(text, &back); err != nil || back != c {
			t.Fatalf("%v -> %s -> %v, %v", int(c), text, int(back), err)
		}
	})
	var c gpu.Code
	if err := json.Unmarshal([]byte(`"NONSENSE"`), &c); err == nil {
		t.Error("nonsense is a code")
	}
}
