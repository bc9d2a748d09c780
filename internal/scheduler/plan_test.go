package scheduler

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
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
			c.Paused = &task.Pause{At: 1, By: "uid 7", Reason: "maintenance"}
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
	if rapid.Bool().Draw(t, "least?") {
		s.Least = leastOf(s.Heads)
	}
	return s
})

// leastOf is what a store says of these heads.
func leastOf(heads []Head) map[string]Usage {
	least := map[string]Usage{}
	for _, h := range heads {
		need, ok := least[h.Class]
		if !ok {
			need = Usage{CPUMilli: h.Resources.CPU(), MemBytes: h.Resources.MemBytes}
		}
		least[h.Class] = Usage{CPUMilli: min(need.CPUMilli, h.Resources.CPU()), MemBytes: min(need.MemBytes, h.Resources.MemBytes)}
	}
	return least
}

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
			if c.Paused != nil || s.Backends[p.Backend].Down != "" {
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

// TestEveryWaitHasAReason: whatever is not placed says why.
func TestEveryWaitHasAReason(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Draw(rt, "snapshot")
		d := Plan(s)
		done := map[task.Seq]bool{}
		for _, p := range d.Place {
			done[p.Seq] = true
		}
		for _, h := range s.Heads {
			if !done[h.Seq] && strings.TrimSpace(d.Waits[h.Shape].Reason) == "" {
				rt.Fatalf("task %d waits without a reason: %+v of %+v", h.Seq, h, s.Classes[h.Class])
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
		if !ok || c.Paused != nil || s.Backends["process"].Down != "" || h.Resources.CPU() > s.Capacity.CPUMilli {
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

// TestPlannerIsPlan: who offers the line head by head, skips what is to be
// skipped and stops when told to, starts the same tasks.
func TestPlannerIsPlan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySnapshot.Draw(rt, "snapshot")
		want := Plan(s).Place
		got, _ := walk(s)
		if !slices.EqualFunc(got, want, func(a, b Placement) bool { return reflect.DeepEqual(a, b) }) {
			rt.Fatalf("placed %+v, and Plan places %+v", got, want)
		}
	})
}

// walk offers the heads as a store does, and counts how many it looks at.
func walk(s Snapshot) (placed []Placement, looked int) {
	line := slices.Clone(s.Heads)
	slices.SortStableFunc(line, func(a, b Head) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Seq, b.Seq))
	})
	p := NewPlanner(s)
	shapes, classes := map[string]bool{}, map[string]bool{}
	for _, h := range line {
		if p.Full() {
			break
		}
		if shapes[h.Shape] || classes[h.Class] {
			continue
		}
		looked++
		switch p.Offer(h) {
		case Stop:
			return p.Decision().Place, looked
		case Skip:
			shapes[h.Shape] = true
		case SkipClass:
			classes[h.Class] = true
		case More:
		}
	}
	return p.Decision().Place, looked
}

// TestNothingIsLookedAtInVain: where a class is shut its shapes are not looked at,
// and none at all where what is free is too little for any.
func TestNothingIsLookedAtInVain(t *testing.T) {
	t.Parallel()
	many := func(class string, from int64) (heads []Head) {
		for i := range int64(100) {
			heads = append(heads, Head{
				Order: task.Instant(i), Since: task.Instant(time.Hour), Class: class,
				Resources: task.Resources{CPUMilli: from + i, MemBytes: 1 << 30},
			})
		}
		return heads
	}
	free := Class{Name: "a", Backends: []string{"process"}}
	for _, c := range []struct {
		name   string
		heads  []Head
		change func(*Snapshot)
		placed int
		most   int // heads that are looked at
	}{
		{"a rest is free", many("a", 10), func(s *Snapshot) { s.Used.CPUMilli = 3995 }, 0, 0},
		{"a rest of memory is free", many("a", 10), func(s *Snapshot) { s.Capacity.MemBytes, s.Used.MemBytes = 4<<30, 3<<30+1 }, 0, 0},
		{"a rest is left", many("a", 1500), func(s *Snapshot) { s.Classes["a"] = free }, 2, 2},
		{"at the limit", many("a", 10), func(s *Snapshot) { s.Running = map[string]int{"a": 2} }, 0, 0},
		{"the limit is reached", many("a", 10), func(*Snapshot) {}, 2, 2},
		{"paused", many("a", 10), func(s *Snapshot) { s.Classes["a"] = Class{Name: "a", Paused: &task.Pause{}} }, 0, 0},
		{"one of two is shut", append(many("gone", 10), many("a", 20)...), func(*Snapshot) {}, 2, 3},
		{"one fits", append(many("a", 2000), Head{Order: 101, Class: "a"}), func(s *Snapshot) { s.Used.CPUMilli = 3000 }, 1, 101},
	} {
		s := machine(4, c.heads...)
		s.Classes["a"] = Class{Name: "a", Backends: []string{"process"}, Parallel: 2}
		s.Least = leastOf(s.Heads)
		c.change(&s)
		if placed, looked := walk(s); len(placed) != c.placed || looked > c.most {
			t.Errorf("%s: %d start and %d are looked at, want %d and at most %d", c.name, len(placed), looked, c.placed, c.most)
		}
	}
}

// TestPausedClassSaysHow: who asks is told since when, by whom, why, and what to do.
func TestPausedClassSaysHow(t *testing.T) {
	t.Parallel()
	s := machine(4, Head{Order: 1})
	at := task.At(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	s.Classes["a"] = Class{Name: "a", Backends: []string{"process"}, Paused: &task.Pause{At: at, By: "uid 7 (ada)", Reason: "the disk is moved"}}
	want := "class a is paused since " + at.Time().Format("2006-01-02 15:04:05 MST") + " by uid 7 (ada): the disk is moved; resume with: dspy-agent resume a"
	if d := Plan(s); len(d.Place) != 0 || d.Waits[s.Heads[0].Shape].Reason != want {
		t.Errorf("got %+v, want %s", d, want)
	}
}

// TestUnknownClassWaits: a class that is gone from the configuration may come
// back, so its tasks wait, and those of other classes go on.
func TestUnknownClassWaits(t *testing.T) {
	t.Parallel()
	s := machine(2, Head{Order: 1, Class: "gone"}, Head{Order: 2})
	d := Plan(s)
	if len(d.Place) != 1 || d.Place[0].Seq != 2 {
		t.Errorf("placed %+v", d.Place)
	}
	if got, want := d.Waits[s.Heads[0].Shape].Reason, "its class gone is not in the configuration; add [classes.gone] to it, or cancel the task"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
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
