package scheduler

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// anySnapshot draws a machine, some classes and a line of waiting tasks.
var anySnapshot = rapid.Custom(func(t *rapid.T) Snapshot {
	s := Snapshot{
		Now:      task.Instant(time.Hour),
		Capacity: Capacity{CPUMilli: int64(rapid.IntRange(1, 8).Draw(t, "cpus")) * 1000, MemBytes: rapid.SampledFrom([]int64{0, 8 << 30}).Draw(t, "mem")},
		Backends: map[string]Backend{
			"process": {Name: "process", Local: true, NoImage: true},
			"slurm":   {Name: "slurm", NoImage: true, Image: true},
		},
		Classes: map[string]Class{},
		Running: map[string]int{},
		Ahead:   map[string]int{},
	}
	if rapid.IntRange(0, 9).Draw(t, "down?") == 0 {
		b := s.Backends["process"]
		b.Down = "the supervisor does not answer"
		s.Backends["process"] = b
	}
	for _, n := range []string{"a", "b", "c"} {
		c := Class{Name: n, Backends: []string{"process"}, Parallel: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "parallel"), AheadPerSlot: rapid.SampledFrom([]int{0, 0, 4}).Draw(t, "ahead")}
		if n == "c" {
			c.Backends = []string{"process", "slurm"}
		}
		if rapid.IntRange(0, 9).Draw(t, "paused?") == 0 {
			c.Paused = "maintenance"
		}
		s.Classes[n] = c
	}
	s.Running["a"] = rapid.IntRange(0, 2).Draw(t, "running")
	s.Used.CPUMilli = min(s.Capacity.CPUMilli, int64(s.Running["a"])*1000)
	shapes := map[string]Head{}
	for i := range rapid.IntRange(0, 30).Draw(t, "heads") {
		h := Head{
			Seq: task.Seq(i + 1), ID: fmt.Sprint("t", i), Attempt: 1,
			Order: task.Instant(rapid.Int64Range(0, 5).Draw(t, "order")),
			Since: task.Instant(rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "since")),
			Class: rapid.SampledFrom([]string{"a", "b", "c", "gone"}).Draw(t, "class"),
		}
		h.Resources.CPUMilli = rapid.SampledFrom([]int64{0, 500, 1000, 4000, 9000}).Draw(t, "cpu")
		if s.Capacity.MemBytes > 0 {
			h.Resources.MemBytes = rapid.SampledFrom([]int64{0, 1 << 30, 6 << 30}).Draw(t, "need")
		}
		h.Shape = fmt.Sprint(h.Class, h.Resources)
		// Within a shape the store hands heads over in the order of the line.
		if last, ok := shapes[h.Shape]; ok && h.Order < last.Order {
			h.Order = last.Order
		}
		shapes[h.Shape] = h
		s.Heads = append(s.Heads, h)
	}
	return s
})

func byRef(s Snapshot) map[task.Seq]Head {
	m := make(map[task.Seq]Head)
	for _, h := range s.Heads {
		m[h.Seq] = h
	}
	return m
}

// TestSafety: something bad never happens.
func TestSafety(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Draw(rt, "snapshot")
		d := Plan(s)
		heads := byRef(s)
		cpu, mem := s.Used.CPUMilli, s.Used.MemBytes
		running := cloneCounts(s.Running)
		seen := map[task.Seq]bool{}
		for _, p := range d.Place {
			h, ok := heads[p.Seq]
			if !ok || seen[p.Seq] {
				rt.Fatalf("placed %d, which is not waiting or was placed already", p.Seq)
			}
			seen[p.Seq] = true
			c := s.Classes[h.Class]
			if c.Paused != "" || s.Backends[p.Backend].Down != "" {
				rt.Fatalf("placed %d although it may not start", p.Seq)
			}
			if p.Lease.Ahead {
				continue
			}
			running[h.Class]++
			if c.Parallel > 0 && running[h.Class] > c.Parallel {
				rt.Fatalf("class %s is over its limit", h.Class)
			}
			if s.Backends[p.Backend].Local {
				cpu += p.Lease.CPUMilli
				mem += p.Lease.MemBytes
			}
		}
		if cpu > s.Capacity.CPUMilli || s.Capacity.MemBytes > 0 && mem > s.Capacity.MemBytes {
			rt.Fatalf("over capacity: %d of %d CPU, %d of %d bytes", cpu, s.Capacity.CPUMilli, mem, s.Capacity.MemBytes)
		}
	})
}

// TestEveryWaitHasAReason: whatever is not placed or refused says why.
func TestEveryWaitHasAReason(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Draw(rt, "snapshot")
		d := Plan(s)
		done := map[task.Seq]bool{}
		for _, p := range d.Place {
			done[p.Seq] = true
		}
		for _, r := range d.Refuse {
			done[r.Seq] = true
			if r.Reason == "" {
				rt.Fatal("refused without a reason")
			}
		}
		for _, h := range s.Heads {
			if !done[h.Seq] && strings.TrimSpace(d.Waits[h.Shape].Reason) == "" {
				rt.Fatalf("task %d waits without a reason", h.Seq)
			}
		}
	})
}

// TestOrderWithinAShape: of two alike, the earlier one starts first.
func TestOrderWithinAShape(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Draw(rt, "snapshot")
		placed := map[task.Seq]bool{}
		for _, p := range Plan(s).Place {
			placed[p.Seq] = true
		}
		blocked := map[string]bool{}
		for _, h := range s.Heads {
			if placed[h.Seq] && blocked[h.Shape] {
				rt.Fatalf("%d overtook one of its own shape", h.Seq)
			}
			blocked[h.Shape] = blocked[h.Shape] || !placed[h.Seq]
		}
	})
}

// TestLoneTaskStarts: a task that fits an idle machine is placed.
func TestLoneTaskStarts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Filter(func(s Snapshot) bool { return len(s.Heads) > 0 }).Draw(rt, "snapshot")
		h := s.Heads[0]
		c, ok := s.Classes[h.Class]
		if !ok || c.Paused != "" || s.Backends["process"].Down != "" || h.Resources.CPU() > s.Capacity.CPUMilli {
			rt.Skip("it cannot start on this machine")
		}
		s.Heads, s.Running, s.Used = []Head{h}, map[string]int{}, Usage{}
		if d := Plan(s); len(d.Place) != 1 || d.Place[0].Lease.Ahead {
			rt.Fatalf("a lone task was not started: %+v", d)
		}
	})
}

// TestSamePlan: the same snapshot gives the same decision, and is not changed.
func TestSamePlan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Draw(rt, "snapshot")
		before := fmt.Sprintf("%+v", s)
		a, b := Plan(s), Plan(s)
		if !reflect.DeepEqual(a, b) || before != fmt.Sprintf("%+v", s) {
			rt.Fatal("not a function")
		}
	})
}

func machine(cpus int64, heads ...Head) Snapshot {
	for i := range heads {
		heads[i].Seq, heads[i].Attempt = task.Seq(i+1), 1
		heads[i].ID = fmt.Sprint("t", i+1)
		heads[i].Shape = fmt.Sprint(heads[i].Class, heads[i].Resources)
		if heads[i].Class == "" {
			heads[i].Class = "a"
		}
	}
	return Snapshot{
		Now: task.Instant(time.Hour), Capacity: Capacity{CPUMilli: cpus * 1000},
		Backends: map[string]Backend{"process": {Name: "process", Local: true, NoImage: true}},
		Classes:  map[string]Class{"a": {Name: "a", Backends: []string{"process"}}},
		Heads:    heads,
	}
}

// TestLargeTaskIsNotStarved: small tasks pass a large one that waits for room,
// but only for a while.
func TestLargeTaskIsNotStarved(t *testing.T) {
	t.Parallel()
	big := Head{Order: 1, Since: task.Instant(time.Hour - time.Second), Resources: task.Resources{CPUMilli: 4000}}
	small := Head{Order: 2}
	s := machine(4, big, small)
	s.Used.CPUMilli = 1000
	if d := Plan(s); len(d.Place) != 1 || d.Place[0].Seq != 2 {
		t.Errorf("while the large one is young, the small one starts: %+v", d)
	}
	s.Heads[0].Since = task.Instant(time.Hour - ReserveAfter)
	d := Plan(s)
	if len(d.Place) != 0 {
		t.Errorf("once the large one has waited long, what becomes free is its: %+v", d)
	}
	if want := "kept for task t1"; !strings.Contains(d.Waits[s.Heads[1].Shape].Reason, want) {
		t.Errorf("reason %q does not say %q", d.Waits[s.Heads[1].Shape].Reason, want)
	}
}

// TestAheadStopsForOthers: nothing is placed ahead while an earlier task waits
// for room, or short tasks would never let it in.
func TestAheadStopsForOthers(t *testing.T) {
	t.Parallel()
	s := machine(2, Head{Order: 2}, Head{Order: 1, Resources: task.Resources{CPUMilli: 2000}})
	s.Classes["a"] = Class{Name: "a", Backends: []string{"process"}, AheadPerSlot: 4}
	s.Used.CPUMilli, s.Running = 2000, map[string]int{"a": 2}
	if d := Plan(s); len(d.Place) != 0 {
		t.Errorf("placed ahead of a waiting task: %+v", d.Place)
	}
	s.Heads = s.Heads[:1]
	if d := Plan(s); len(d.Place) != 1 || !d.Place[0].Lease.Ahead {
		t.Errorf("a short task was not placed ahead: %+v", d.Place)
	}
}

// TestNothingAheadBesideUneven: whoever starts what was placed ahead counts slots
// of one CPU, so nothing may go ahead beside a task that holds three.
func TestNothingAheadBesideUneven(t *testing.T) {
	t.Parallel()
	s := machine(4, Head{Order: 1})
	s.Classes["a"] = Class{Name: "a", Backends: []string{"process"}, AheadPerSlot: 4}
	s.Used.CPUMilli, s.Running, s.Uneven = 4000, map[string]int{"a": 2}, 1
	if d := Plan(s); len(d.Place) != 0 {
		t.Errorf("placed ahead beside a task of three CPUs: %+v", d.Place)
	}
}

func BenchmarkPlan(b *testing.B) {
	var heads []Head
	for i := range 1000 {
		heads = append(heads, Head{Order: task.Instant(i), Resources: task.Resources{CPUMilli: int64(500 + i%7*500)}})
	}
	s := machine(64, heads...)
	for b.Loop() {
		Plan(s)
	}
}
