package worker

import (
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestRoom: what is begun takes room and gives it back. Plain attempts may wait ahead for a
// place, as long as there are no others.
func TestRoom(t *testing.T) {
	t.Parallel()
	r := newRoom(Options{CPUMilli: 2000, MemBytes: 100, GPUs: []string{"a", "b"}})
	begin := func(what string, k task.Task, ahead int, want bool) []string {
		t.Helper()
		gpus, ok := r.begin(k, ahead)
		if ok != want {
			t.Fatalf("%s: begins %t", what, ok)
		}
		return gpus
	}
	one := taskOf(t, 1, task.Resources{})
	mem := taskOf(t, 2, task.Resources{MemBytes: 60})
	two := taskOf(t, 3, task.Resources{CPUMilli: 2000})
	gpu := taskOf(t, 4, task.Resources{GPUs: 2})

	begin("a first plain one", one, 0, true)
	begin("one that needs both CPUs", two, 9, false)
	begin("a second plain one", one, 0, true)
	begin("a third has no place", one, 0, false)
	begin("a third waits for one", one, 1, true)
	begin("a fourth would be too many", one, 1, false)
	r.end(one, nil)
	r.end(one, nil)
	begin("one with memory", mem, 0, true)
	begin("with one that is not plain nobody waits ahead", one, 5, false)
	r.end(mem, nil)
	r.end(one, nil)

	got := begin("one with GPUs", gpu, 0, true)
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("it has %v", got)
	}
	begin("another with GPUs", gpu, 0, false)
	r.end(gpu, got)
	begin("memory", mem, 0, true)
	begin("more memory than is left", mem, 0, false)
	r.end(mem, nil)
	begin("both CPUs", two, 0, true)
	r.end(two, nil)
	if r.usedCPU != 0 || r.usedMem != 0 || r.uneven != 0 || len(r.gpus) != 2 {
		t.Errorf("all have ended, and the room is %+v", r)
	}
}

// TestShowGPUs: a program sees its GPUs, and without any none but those that it names
// itself.
func TestShowGPUs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ env, gpus, want []string }{
		{[]string{"A=1"}, []string{"3", "4"}, []string{"A=1", "CUDA_VISIBLE_DEVICES=3,4"}},
		{[]string{"CUDA_VISIBLE_DEVICES=7", "A=1"}, []string{"3"}, []string{"A=1", "CUDA_VISIBLE_DEVICES=3"}},
		{[]string{"A=1"}, nil, []string{"A=1", "CUDA_VISIBLE_DEVICES="}},
		{[]string{"CUDA_VISIBLE_DEVICES=7"}, nil, []string{"CUDA_VISIBLE_DEVICES=7"}},
	} {
		before := slices.Clone(c.env)
		if got := showGPUs(c.env, c.gpus); !slices.Equal(got, c.want) {
			t.Errorf("%v with %v: %v, want %v", c.env, c.gpus, got, c.want)
		}
		if !slices.Equal(c.env, before) {
			t.Errorf("what the task was given is changed: %v", c.env)
		}
	}
}

// TestRate: how many end a second, as the last window shows.
func TestRate(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	var r rate
	r.add(5, now) // the first look begins a window
	if n := r.per(time.Second, now.Add(window/2)); n != 0 {
		t.Errorf("%d a second, and no window is over", n)
	}
	r.add(10, now.Add(window))
	if n := r.per(time.Second, now.Add(window)); n != 40 {
		t.Errorf("%d a second, want 40", n)
	}
	if n := r.per(2*time.Second, now.Add(window+window/2)); n != 80 {
		t.Errorf("%d in two, want 80", n)
	}
	if n := r.per(time.Hour, now.Add(3*window)); n != 0 {
		t.Errorf("%d, and nothing has ended for a while", n)
	}
}

// TestWants: a first taste, then as many as keep the worker busy for a second, and no more
// than are kept at all.
func TestWants(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	for name, c := range map[string]struct {
		all, done  int
		rate       float64
		failed     time.Time
		room, hold int
	}{
		"at first":            {room: 16, hold: 16},
		"while it has some":   {all: 3, room: 1, hold: 4},
		"when they are short": {all: 3, rate: 100, room: 101, hold: 104},
		"when some have ended and are not stored":   {all: 10, done: 9, rate: 100, room: 103, hold: 104},
		"when it is too fast":                       {rate: 1e6, room: mostHeld, hold: mostHeld},
		"when the owner does not store what ends":   {all: mostKept - 5, done: mostKept - 5, rate: 1e6, room: 5, hold: mostHeld},
		"when more has ended than is kept":          {all: mostKept, done: mostKept, rate: 1e6, room: 0, hold: mostHeld},
		"just after something could not be claimed": {failed: now.Add(-time.Second), room: 0, hold: 4},
		"a while after":                             {failed: now.Add(-time.Minute), room: 16, hold: 16},
	} {
		o, _, _ := options(t, 4)
		o.Now = func() time.Time { return now }
		w := idleWorker(t, o)
		for i := range c.all {
			w.all[task.Ref{Seq: task.Seq(i + 1)}] = &held{}
		}
		w.done, w.failed = c.done, c.failed
		w.rate = rate{since: now, value: c.rate}
		if room, hold := w.wants(); room != c.room || hold != c.hold {
			t.Errorf("%s: it wants %d and %d altogether, want %d and %d", name, room, hold, c.room, c.hold)
		}
	}
}
