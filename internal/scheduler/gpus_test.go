package scheduler_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const gib = int64(1) << 30

var gpuNow = task.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

// board is GPUs, and who holds which of them until when.
type board struct {
	devices []gpu.Device
	leases  []gpu.Lease
	ends    map[string]task.Instant
}

func newBoard(n int) *board {
	b := &board{ends: map[string]task.Instant{}}
	for i := range n {
		b.devices = append(b.devices, gpu.Device{
			ID: gpu.DeviceID(fmt.Sprintf("GPU-%02d", i)), Kind: gpu.Whole, Model: "NVIDIA H100", Index: i, CUDAIndex: i, TotalBytes: 80 * gib, GI: -1, CI: -1,
			Sample: gpu.Sample{UsedBytes: new(int64(0)), FreeBytes: new(80 * gib), ComputeMode: gpu.ComputeShared},
		})
	}
	return b
}

// at is the board as a Snapshot has it, with the devices just looked at.
func (b *board) at(now task.Instant) func() scheduler.GPUs {
	s := &gpu.Snapshot{At: now.Time(), Devices: b.devices}
	book := gpu.Book{}.After(gpu.Observation{Now: now.Time(), Snapshot: s, Leases: b.leases})
	verdicts := gpu.Judge(book, s, b.leases, now.Time())
	return func() scheduler.GPUs {
		return scheduler.GPUs{Verdicts: verdicts, Sharers: gpu.DefaultSharers, Ends: b.ends}
	}
}

// hold notes what a plan has placed.
func (b *board) hold(head scheduler.Head, p scheduler.Placement, now task.Instant) {
	b.leases = append(b.leases, p.Lease.GPULease(head.ID))
	if head.Limit > 0 {
		b.ends[head.ID] = now.Add(head.Limit)
	}
}

// end is for a task that has ended.
func (b *board) end(id string) {
	for i, l := range b.leases {
		if l.Holder == id {
			b.leases = append(b.leases[:i:i], b.leases[i+1:]...)
			break
		}
	}
	delete(b.ends, id)
}

func gpuSnapshot(b *board, now task.Instant, heads ...scheduler.Head) scheduler.Snapshot {
	return scheduler.Snapshot{
		Now:      now,
		Classes:  map[string]scheduler.Class{"gpu": {Name: "gpu", Backends: []string{"process"}}},
		Backends: map[string]scheduler.Backend{"process": {Name: "process", Local: true, NoImage: true}},
		Capacity: scheduler.Capacity{CPUMilli: 1 << 30},
		GPUs:     b.at(now), Heads: heads,
	}
}

// gpuHead is the n-th task in the line, of a shape of its own.
func gpuHead(n int, r task.Resources, limit time.Duration) scheduler.Head {
	id := fmt.Sprintf("t%d", n)
	return scheduler.Head{
		Seq: task.Seq(n), ID: id, Attempt: 1, Order: gpuNow + task.Instant(n), Since: gpuNow, Class: "gpu", Shape: id, Resources: r, Limit: limit,
	}
}

func drawRequest(t *rapid.T) task.Resources {
	if rapid.Bool().Draw(t, "share") {
		return task.Resources{GPUMem: rapid.Int64Range(1, 100).Draw(t, "GiB") * gib}
	}
	return task.Resources{GPUs: rapid.IntRange(1, 5).Draw(t, "gpus")}
}

// TestGPULeases: whatever is planned round after round, no whole GPU has two holders,
// shares stay within the memory and the cap, and the same snapshot gives the same plan.
func TestGPULeases(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := newBoard(rapid.IntRange(1, 8).Draw(t, "devices"))
		now := gpuNow
		for round := range rapid.IntRange(1, 5).Draw(t, "rounds") {
			var heads []scheduler.Head
			byS := map[task.Seq]scheduler.Head{}
			for i := range rapid.IntRange(0, 8).Draw(t, "heads") {
				h := gpuHead(100*round+i+1, drawRequest(t), time.Duration(rapid.IntRange(0, 60).Draw(t, "limit"))*time.Minute)
				heads, byS[h.Seq] = append(heads, h), h
			}
			s := gpuSnapshot(b, now, heads...)
			d := scheduler.Plan(s)
			if again := scheduler.Plan(s); !reflect.DeepEqual(d, again) {
				t.Fatalf("two plans of one snapshot: %v and %v", d, again)
			}
			for _, p := range d.Place {
				if h := byS[p.Seq]; h.Resources.GPUs > 0 && len(p.Lease.GPUs) != h.Resources.GPUs {
					t.Fatalf("%s has %v, and needs %d", h.ID, p.Lease.GPUs, h.Resources.GPUs)
				}
				b.hold(byS[p.Seq], p, now)
			}
			soundLeases(t, b)
			if n := len(b.leases); n > 0 && rapid.Bool().Draw(t, "ends") {
				b.end(b.leases[rapid.IntRange(0, n-1).Draw(t, "which")].Holder)
			}
			now = now.Add(time.Minute)
		}
	})
}

func soundLeases(t *rapid.T, b *board) {
	t.Helper()
	for _, d := range b.devices {
		whole, shares, sum := 0, 0, int64(0)
		for _, l := range b.leases {
			for _, id := range l.Devices {
				switch {
				case id != d.ID:
				case l.Whole():
					whole++
				default:
					shares, sum = shares+1, sum+l.Bytes
				}
			}
		}
		if whole > 1 || whole == 1 && shares > 0 || sum > d.TotalBytes || shares > gpu.DefaultSharers {
			t.Fatalf("%s has %d whole leases and %d shares of %d GiB", d.ID, whole, shares, sum/gib)
		}
	}
}

// TestLoneGPUTaskIsPlaced: a task that the machine can hold starts when nothing else is
// there.
func TestLoneGPUTaskIsPlaced(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "devices")
		h := gpuHead(1, drawRequest(t), 0)
		d := scheduler.Plan(gpuSnapshot(newBoard(n), gpuNow, h))
		fits := h.Resources.GPUs <= n && h.Resources.GPUMem <= 80*gib
		if fits != (len(d.Place) == 1) {
			t.Fatalf("%v of %d GPUs: placed %v: %v", h.Resources.GPURequest(), n, d.Place, d.Waits)
		}
		if !fits && d.Waits[h.Shape].Reason == "" {
			t.Fatal("it waits without a reason")
		}
	})
}

// TestBackfillNeverDelays: a task that needs many GPUs has waited for long, while others
// hold some of them up to a limit. However many smaller ones with all kinds of limits
// come after it in the line, it starts no later than when the last of what it waits for
// was sure to end.
func TestBackfillNeverDelays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(t, "devices")
		b := newBoard(n)
		var ends []task.Instant // of each device
		for i := range n {
			minutes := rapid.IntRange(0, 60).Draw(t, "held for")
			at := gpuNow.Add(time.Duration(minutes) * time.Minute)
			ends = append(ends, at)
			if minutes > 0 {
				id := fmt.Sprintf("old%d", i)
				b.leases = append(b.leases, gpu.Lease{Holder: id, Devices: []gpu.DeviceID{b.devices[i].ID}})
				b.ends[id] = at
			}
		}
		big := gpuHead(1, task.Resources{GPUs: rapid.IntRange(2, n).Draw(t, "needs")}, time.Hour)
		big.Since = gpuNow.Add(-scheduler.ReserveAfter)
		promised := nth(ends, big.Resources.GPUs)
		started := simulate(t, b, big, promised)
		if started > promised {
			t.Fatalf("it starts %s late", started.Sub(promised))
		}
	})
}

// nth is when n of the devices are free.
func nth(ends []task.Instant, n int) task.Instant {
	sorted := append([]task.Instant(nil), ends...)
	for i := range sorted {
		for j := i + 1; j < len(sorted); j++ {
			if sorted[j] < sorted[i] {
				sorted[i], sorted[j] = sorted[j], sorted[i]
			}
		}
	}
	return sorted[n-1]
}

// simulate plans minute by minute with newcomers until the task starts. Everybody uses
// the limit up.
func simulate(t *rapid.T, b *board, big scheduler.Head, until task.Instant) task.Instant {
	waiting := []scheduler.Head{big}
	next := 2
	for now := gpuNow; now <= until; now = now.Add(time.Minute) {
		for id, at := range b.ends {
			if at <= now {
				b.end(id)
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "newcomers") {
			limit := time.Duration(rapid.IntRange(0, 70).Draw(t, "limit")) * time.Minute
			h := gpuHead(next, task.Resources{GPUs: rapid.IntRange(1, 2).Draw(t, "gpus")}, limit)
			if rapid.Bool().Draw(t, "of one kind") { // which the first of them does not hold up
				h.Shape = fmt.Sprint("of ", h.Resources.GPUs)
			}
			waiting = append(waiting, h)
			next++
		}
		d := scheduler.Plan(gpuSnapshot(b, now, waiting...))
		for _, p := range d.Place {
			for i, h := range waiting {
				if h.Seq == p.Seq {
					if h.ID == big.ID {
						return now
					}
					b.hold(h, p, now)
					waiting = append(waiting[:i:i], waiting[i+1:]...)
					break
				}
			}
		}
	}
	return until + 1
}

func TestGPUReasons(t *testing.T) {
	t.Parallel()
	b := newBoard(2)
	b.leases = []gpu.Lease{{Holder: "a", Devices: []gpu.DeviceID{"GPU-00"}}}
	old, small := gpuHead(1, task.Resources{GPUs: 2}, 0), gpuHead(2, task.Resources{GPUs: 1}, time.Minute)
	old.Since = gpuNow.Add(-scheduler.ReserveAfter)
	d := scheduler.Plan(gpuSnapshot(b, gpuNow, old, small))
	if got, want := d.Waits["t1"].Reason, "needs 2 GPUs: 1 free, 1 held by task a; what becomes free is kept for it, and nobody knows until when, since task a has no time limit; until then nobody else gets it"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := d.Waits["t2"].Reason, "needs 1 GPU: 1 free, 1 held by task a; what becomes free is kept for task t1, which needs 2 GPUs, and nobody knows until when, since task a has no time limit"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b.ends["a"] = gpuNow.Add(time.Hour)
	late := gpuHead(3, task.Resources{GPUs: 1}, 2*time.Hour)
	d = scheduler.Plan(gpuSnapshot(b, gpuNow, old, late))
	if got, want := d.Waits["t1"].Reason, "needs 2 GPUs: 1 free, 1 held by task a; what becomes free is kept for it, and all of it is there by 13:00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := d.Waits["t3"].Reason, "needs 1 GPU: 1 free, 1 held by task a; what becomes free is kept for task t1, which needs 2 GPUs; until 13:00, when that one has all of it, others may have it if their own time limit (--timeout) ends before"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s := gpuSnapshot(b, gpuNow, small)
	s.GPUs = nil
	if got, want := scheduler.Plan(s).Waits["t2"].Reason, "it needs 1 GPU: nobody looks at the GPUs of this host"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestBackfillPassesTheFirstOfItsKind: a task whose limit lets it have what is kept for
// another has it, also behind one like it without a limit, which waits; and in the order of
// the line.
func TestBackfillPassesTheFirstOfItsKind(t *testing.T) {
	t.Parallel()
	b := newBoard(2)
	b.leases, b.ends["a"] = []gpu.Lease{{Holder: "a", Devices: []gpu.DeviceID{"GPU-00"}}}, gpuNow.Add(time.Hour)
	big := gpuHead(1, task.Resources{GPUs: 2}, 0)
	big.Since = gpuNow.Add(-scheduler.ReserveAfter)
	heads := []scheduler.Head{big}
	for i, limit := range []time.Duration{0, 2 * time.Hour, 20 * time.Minute, 10 * time.Minute} {
		h := gpuHead(2+i, task.Resources{GPUs: 1}, limit)
		h.Shape = "small"
		heads = append(heads, h)
	}
	s := gpuSnapshot(b, gpuNow, heads...)
	d := scheduler.Plan(s)
	if len(d.Place) != 1 || d.Place[0].Seq != 4 || d.Waits["small"].Seq != 2 {
		t.Errorf("placed %+v; %+v", d.Place, d.Waits)
	}
	p := scheduler.NewPlanner(s)
	for i, want := range []scheduler.Verdict{scheduler.Skip, scheduler.More, scheduler.More, scheduler.More, scheduler.Skip} {
		if got := p.Offer(heads[i]); got != want {
			t.Errorf("the planner's word on %s is %d, want %d", heads[i].ID, got, want)
		}
	}
	if kept := p.Kept(); len(kept) != 2 || kept["GPU-00"] != "t1" || kept["GPU-01"] != "t1" {
		t.Errorf("kept: %v", kept)
	}
}

// TestOldLook: what was seen too long ago is not placed by; somebody is to look again.
func TestOldLook(t *testing.T) {
	t.Parallel()
	s := gpuSnapshot(newBoard(1), gpuNow)
	fresh := s.GPUs()
	fresh.Old = true
	s.GPUs = func() scheduler.GPUs { return fresh }
	p := scheduler.NewPlanner(s)
	p.Offer(gpuHead(1, task.Resources{GPUs: 1}, 0))
	if d := p.Decision(); len(d.Place) != 0 || !d.Look {
		t.Errorf("placed %v, look %v", d.Place, d.Look)
	}
}

// TestGPUTasksLeaveCPUsToOthers: who waits for a GPU keeps no CPU from others.
func TestGPUTasksLeaveCPUsToOthers(t *testing.T) {
	t.Parallel()
	h, plain := gpuHead(1, task.Resources{GPUs: 3}, 0), gpuHead(2, task.Resources{}, 0)
	h.Since = gpuNow.Add(-time.Hour)
	s := gpuSnapshot(newBoard(2), gpuNow, h, plain)
	s.Capacity.CPUMilli = 1000
	if d := scheduler.Plan(s); len(d.Place) != 1 || d.Place[0].Seq != plain.Seq {
		t.Errorf("placed %v", d.Place)
	}
}

// BenchmarkGPUPlan plans 10,000 waiting tasks, each of a shape of its own, over 16 GPUs
// of which half are held.
func BenchmarkGPUPlan(b *testing.B) {
	board := newBoard(16)
	for i := range 8 {
		board.leases = append(board.leases, gpu.Lease{Holder: fmt.Sprint("old", i), Devices: []gpu.DeviceID{board.devices[i].ID}})
	}
	heads := make([]scheduler.Head, 10_000)
	for i := range heads {
		r := task.Resources{GPUs: 1 + i%8}
		if i%3 == 0 {
			r = task.Resources{GPUMem: int64(1+i%100) * gib}
		}
		heads[i] = gpuHead(i+1, r, time.Duration(i%7)*time.Minute)
		heads[i].Since = gpuNow.Add(-time.Hour)
	}
	for b.Loop() {
		p := scheduler.NewPlanner(gpuSnapshot(board, gpuNow))
		for _, h := range heads {
			if p.Offer(h) == scheduler.Stop {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/plan")
}

// TestBackendWithoutGPUs: what a backend cannot give, a task waits for and says so; a task
// that needs none has it.
func TestBackendWithoutGPUs(t *testing.T) {
	t.Parallel()
	s := gpuSnapshot(newBoard(1), gpuNow, gpuHead(1, task.Resources{GPUs: 1}, 0), gpuHead(2, task.Resources{}, 0))
	for i := range s.Heads {
		s.Heads[i].Image = "there"
	}
	s.Backends = map[string]scheduler.Backend{"process": {Name: "process", Local: true, Image: true, NoGPUs: "no toolkit"}}
	d := scheduler.Plan(s)
	if len(d.Place) != 1 || d.Place[0].Seq != 2 || d.Waits["t1"].Reason != "backend process gives no GPUs: no toolkit" {
		t.Errorf("%+v", d)
	}
}
