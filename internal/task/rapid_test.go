package task

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var anyEvent = rapid.Custom(func(t *rapid.T) Event {
	kinds := []EventKind{EventCancelAsked, EventDepEnded, EventNoted, EventHeld}
	for _, e := range Edges {
		if e.Event != EventSubmitted {
			kinds = append(kinds, e.Event)
		}
	}
	return Event{
		Kind:       rapid.SampledFrom(kinds).Draw(t, "kind"),
		At:         Instant(rapid.Int64Range(1, 1e12).Draw(t, "at")),
		Attempt:    rapid.IntRange(0, 4).Draw(t, "attempt"),
		Backend:    "b",
		Lease:      Lease{CPUMilli: 1000},
		Cause:      Cause(rapid.IntRange(1, 2).Draw(t, "cause")),
		Class:      FailureClass(rapid.IntRange(0, int(classCount)-1).Draw(t, "class")),
		Text:       rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "text"),
		Unprompted: rapid.Bool().Draw(t, "unprompted"),
		Outcome: Outcome{
			ExitCode: rapid.IntRange(0, 2).Draw(t, "exit"),
			Signal:   rapid.SampledFrom([]int{0, 9, 15}).Draw(t, "signal"),
		},
	}
})

var anySpec = rapid.Custom(func(t *rapid.T) *Spec {
	s := spec()
	s.Retries = rapid.IntRange(0, 3).Draw(t, "retries")
	s.OnLost = LostPolicy(rapid.IntRange(0, 1).Draw(t, "on_lost"))
	s.Timeout = time.Minute
	return s
})

// holds are the invariants of a single task.
func holds(t *rapid.T, before, after Task, err error) {
	b, a := before.Status(), after.Status()
	if a.Attempt < b.Attempt || a.Attempt == b.Attempt && a.State.rank() < b.State.rank() {
		t.Fatalf("the clock went back: %d/%s to %d/%s", b.Attempt, b.State, a.Attempt, a.State)
	}
	if a.Attempt > b.Attempt+1 {
		t.Fatalf("an attempt was skipped: %d to %d", b.Attempt, a.Attempt)
	}
	if err != nil && (a.State != b.State || a.Attempt != b.Attempt || (a.Cancel == nil) != (b.Cancel == nil) || a.Blocked != b.Blocked) {
		t.Fatalf("a refused event changed the task: %v", err)
	}
	if !a.State.Active() && a.Lease.CPUMilli != 0 {
		t.Fatalf("%s still holds a lease", a.State)
	}
	if a.State.Active() && a.Lease.CPUMilli == 0 {
		t.Fatalf("%s holds nothing", a.State)
	}
	if b.State.Terminal() && a.State != b.State && a.State != Pending {
		t.Fatalf("%s became %s", b.State, a.State)
	}
	if b.State == Succeeded && (a.State != b.State || a.Attempt != b.Attempt) {
		t.Fatal("a task that succeeded was moved")
	}
	if a.State.Terminal() && a.EndedAt == 0 {
		t.Fatalf("%s without a time", a.State)
	}
}

// TestAnyEvents throws arbitrary events at a task.
func TestAnyEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		tk := New(Seq(rapid.Uint64Range(1, 1000).Draw(rt, "seq")), anySpec.Draw(rt, "spec"), rapid.IntRange(0, 2).Draw(rt, "blocked"))
		for _, ev := range rapid.SliceOfN(anyEvent, 0, 60).Draw(rt, "events") {
			next, err := Apply(tk, ev)
			holds(rt, tk, next, err)
			if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrIllegal) && CodeOf(err) != CodeConflict {
				rt.Fatalf("unexpected error %v", err)
			}
			again, err2 := Apply(tk, ev)
			if again.State() != next.State() || again.Status().NotBefore != next.Status().NotBefore || (err == nil) != (err2 == nil) {
				rt.Fatal("the same event on the same task gave something else")
			}
			tk = next
		}
	})
}

// TestReportsInAnyOrder takes the reports of a real life, repeats, drops and
// shuffles the backend's part, and demands that nothing but ErrStale and
// ErrIllegal happens, and that the full story told once more ends the task.
func TestReportsInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		sp := spec()
		ends := []Event{
			{Kind: EventExited, At: 50, Attempt: 1},
			{Kind: EventExited, At: 50, Attempt: 1, Outcome: Outcome{ExitCode: 2}},
			{Kind: EventVanished, At: 50, Attempt: 1},
		}
		story := []Event{
			{Kind: EventLaunched, At: 20, Attempt: 1, Handle: []byte("h")},
			{Kind: EventStarted, At: 30, Attempt: 1},
			rapid.SampledFrom(ends).Draw(rt, "end"),
		}
		tk := must2(rt, New(1, sp, 0), Event{Kind: EventPlaced, At: 10, Attempt: 1, Lease: Lease{CPUMilli: 1000}})
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(story)-1), 0, 12).Draw(rt, "order") {
			next, err := Apply(tk, story[i])
			holds(rt, tk, next, err)
			tk = next
		}
		for _, ev := range story {
			next, err := Apply(tk, ev)
			if err != nil && !errors.Is(err, ErrStale) {
				rt.Fatalf("the story told in order: %s on %s: %v", ev.Kind, tk.State(), err)
			}
			tk = next
		}
		if !tk.State().Terminal() {
			rt.Fatalf("the task did not end: %s", tk.State())
		}
	})
}

func must2(rt *rapid.T, tk Task, ev Event) Task {
	n, err := Apply(tk, ev)
	if err != nil {
		rt.Fatal(err)
	}
	return n
}

// TestDigestTellsSpecsApart checks that changing any one field changes the digest.
func TestDigestTellsSpecsApart(t *testing.T) {
	t.Parallel()
	change := map[string]func(*Spec){
		"id": func(s *Spec) { s.ID = "u" }, "name": func(s *Spec) { s.Name = "n" }, "class": func(s *Spec) { s.Class = "c" },
		"priority": func(s *Spec) { s.Priority = 1 }, "argv": func(s *Spec) { s.Argv = []string{"tr", "ue"} },
		"dir": func(s *Spec) { s.Dir = "/" }, "env": func(s *Spec) { s.Env = []string{"A=1"} },
		"payload": func(s *Spec) { s.Payload = []byte("{}") }, "timeout": func(s *Spec) { s.Timeout = 1 },
		"grace": func(s *Spec) { s.Grace = 1 }, "retries": func(s *Spec) { s.Retries = 1 },
		"backoff": func(s *Spec) { s.BackoffBase = 1 }, "cap": func(s *Spec) { s.BackoffCap = 1 },
		"on_lost": func(s *Spec) { s.OnLost = LostRetry }, "after": func(s *Spec) { s.After = []Dep{{ID: "x"}} },
		"cpu": func(s *Spec) { s.Resources.CPUMilli = 1 }, "mem": func(s *Spec) { s.Resources.MemBytes = 1 },
		"gpus": func(s *Spec) { s.Resources.GPUs = 1 }, "image": func(s *Spec) { s.Image = "i" },
		"needs": func(s *Spec) { s.Needs = []string{"redis"} }, "backends": func(s *Spec) { s.Backends = []string{"redis"} },
		"workflow": func(s *Spec) { s.WorkflowID = "w" }, "tenant": func(s *Spec) { s.Tenant = "w" },
		"gpu_mem": func(s *Spec) { s.Resources.GPUMem = 1 }, "gpu_model": func(s *Spec) { s.Resources.GPUModel = "m" },
		"mig": func(s *Spec) { s.Resources.MIG = "m" }, "builtin": func(s *Spec) { s.Builtin = BuiltinEcho },
	}
	seen := map[Digest]string{spec().Digest(): "unchanged"}
	for what, f := range change {
		s := spec()
		f(s)
		d := s.Digest()
		if other, twice := seen[d]; twice {
			t.Errorf("%s and %s have one digest", what, other)
		}
		seen[d] = what
	}
	same := spec()
	same.SubmittedAt, same.SubmitUID, same.Via, same.ClassTimeout = 99, 12, "drop", true
	if same.Digest() != spec().Digest() {
		t.Error("the way in changes the digest")
	}
}

func FuzzValidateID(f *testing.F) {
	for _, s := range []string{"a", "../x", "a/b", "-x", "a//b", "ü", "a b", "", ".", "x/..", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if ValidateID(id) != nil {
			return
		}
		for _, r := range id {
			if r <= ' ' || r > '~' {
				t.Fatalf("accepted %q", id)
			}
		}
	})
}
