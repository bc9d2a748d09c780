package task

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func spec() *Spec {
	return &Spec{ID: "t", Class: "cpu_short", Argv: []string{"true"}, SubmittedAt: 1}
}

// must applies events that have to be accepted.
func must(t *testing.T, tk Task, events ...Event) Task {
	t.Helper()
	for _, ev := range events {
		n, err := Apply(tk, ev)
		if err != nil {
			t.Fatalf("%s on %s: %v", ev.Kind, tk.State(), err)
		}
		tk = n
	}
	return tk
}

// in returns a task in the given state of attempt 1, reached by legal edges.
func in(t *testing.T, s State, sp *Spec) Task {
	t.Helper()
	tk := New(1, sp, 0)
	e := func(k EventKind) Event { return Event{Kind: k, At: 10, Attempt: 1, Backend: "b"} }
	placed, launched, started := e(EventPlaced), e(EventLaunched), e(EventStarted)
	stopping := e(EventStopping)
	stopping.Cause = CauseCancel
	switch s {
	case Pending:
		return tk
	case Assigned:
		return must(t, tk, placed)
	case Starting:
		return must(t, tk, placed, launched)
	case Running:
		return must(t, tk, placed, launched, started)
	case Stopping:
		return must(t, tk, placed, launched, started, stopping)
	case Succeeded:
		return must(t, tk, placed, launched, started, e(EventExited))
	case Failed:
		bad := e(EventExited)
		bad.Outcome.ExitCode = 1
		return must(t, tk, placed, launched, started, bad)
	case Cancelled:
		return must(t, tk, Event{Kind: EventCancelAsked, By: "me"}, e(EventCancelled))
	case Lost:
		return must(t, tk, placed, launched, e(EventVanished))
	}
	t.Fatalf("no way to %s", s)
	return tk
}

// TestEveryPair walks every (state, event) pair against the table: an edge that
// is in it leads where it says, one that is not is refused and changes nothing.
func TestEveryPair(t *testing.T) {
	t.Parallel()
	for _, s := range States {
		for _, e := range Edges {
			if e.Event == EventSubmitted {
				continue
			}
			tk := in(t, s, spec())
			for c := range tk.status.Used { // budgets spent, so that no retry follows
				tk.status.Used[c] = 60000
			}
			ev := Event{Kind: e.Event, At: 20, Attempt: 1, Unprompted: true}
			got, err := Apply(tk, ev)
			switch {
			case e.allows(s):
				if err != nil {
					t.Errorf("%s on %s: %v", e.Event, s, err)
					continue
				}
				if !contains(e.To, got.State()) {
					t.Errorf("%s on %s led to %s, which the table does not have", e.Event, s, got.State())
				}
			case err == nil:
				t.Errorf("%s on %s was accepted; the table has no such edge", e.Event, s)
			default:
				if got.State() != s || got.Attempt() != 1 {
					t.Errorf("%s on %s was refused but changed the task", e.Event, s)
				}
			}
		}
	}
}

func contains(states []State, s State) bool {
	return slices.Contains(states, s)
}

func TestLateReportsAreStale(t *testing.T) {
	t.Parallel()
	tk := in(t, Running, spec())
	for _, k := range []EventKind{EventPlaced, EventLaunched, EventStarted, EventCancelled} {
		if _, err := Apply(tk, Event{Kind: k, Attempt: 1}); !errors.Is(err, ErrStale) {
			t.Errorf("%s on a running task: %v, want ErrStale", k, err)
		}
	}
	if _, err := Apply(tk, Event{Kind: EventStopped, Attempt: 1}); !errors.Is(err, ErrIllegal) {
		t.Errorf("stopped without stopping: %v, want ErrIllegal", err)
	}
	if _, err := Apply(tk, Event{Kind: EventExited, Attempt: 2}); !errors.Is(err, ErrIllegal) {
		t.Errorf("report from the future: %v, want ErrIllegal", err)
	}
}

func TestRetryAndBudgets(t *testing.T) {
	t.Parallel()
	sp := spec()
	sp.Retries = 2
	tk := New(7, sp, 0)
	run := func(tk Task, end Event) Task {
		a := tk.Attempt()
		end.Attempt, end.At = a, 100
		return must(t, tk, Event{Kind: EventPlaced, Attempt: a, At: 1}, Event{Kind: EventLaunched, Attempt: a, At: 2},
			Event{Kind: EventStarted, Attempt: a, At: 3}, end)
	}
	fail := Event{Kind: EventExited, Outcome: Outcome{ExitCode: 3}}
	tk = run(tk, fail)
	if tk.State() != Pending || tk.Attempt() != 2 {
		t.Fatalf("after the first failure: %s, attempt %d", tk.State(), tk.Attempt())
	}
	if nb := tk.Status().NotBefore; nb < 100+Instant(BackoffBase*3/4) || nb > 100+Instant(BackoffBase*5/4) {
		t.Fatalf("backoff is %s", time.Duration(nb-100))
	}
	// Trouble of the machine in between costs none of the user's retries.
	tk = must(t, tk, Event{Kind: EventPlaced, Attempt: 2}, Event{Kind: EventNotStarted, Attempt: 2, Text: "no memory"})
	tk = run(tk, fail)
	if tk.State() != Pending || tk.Attempt() != 4 {
		t.Fatalf("after the second failure: %s, attempt %d", tk.State(), tk.Attempt())
	}
	tk = run(tk, Event{Kind: EventExited, Outcome: Outcome{ExitCode: -1, Signal: 9, Class: OutOfMemory}})
	if tk.State() != Failed || tk.Attempt() != 4 {
		t.Fatalf("after the third failure: %s, attempt %d", tk.State(), tk.Attempt())
	}
	if n := len(tk.Status().Past); n != 3 {
		t.Fatalf("%d past attempts, want 3", n)
	}
	tk = must(t, tk, Event{Kind: EventRetried, Attempt: 4, At: 200})
	if tk.State() != Pending || tk.Attempt() != 5 || tk.Status().Used != [16]uint16{} {
		t.Fatalf("a person's retry: %s, attempt %d, used %v", tk.State(), tk.Attempt(), tk.Status().Used)
	}
}

// TestRetryOfHeld: who tries to set a held task going again is told how.
func TestRetryOfHeld(t *testing.T) {
	held := must(t, in(t, Pending, spec()), Event{Kind: EventHeld, At: 10, Attempt: 1, Text: "restored"})
	_, err := Apply(held, Event{Kind: EventRetried, At: 20, Attempt: 1})
	if CodeOf(err) != CodeConflict {
		t.Fatalf("got %v", err)
	}
	if msg, want := err.Error(), "task t is held: restored; dspy-agent queue release t lets it go"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
}

// TestRefusedIsFinal: a task that can never run is not tried again, whatever
// class its refusal has and however many retries there are.
func TestRefusedIsFinal(t *testing.T) {
	t.Parallel()
	for _, class := range append(FailureClasses(), NoFailure) {
		sp := spec()
		sp.Retries, sp.OnLost = 5, LostRetry
		tk := must(t, New(1, sp, 0), Event{Kind: EventRefused, Attempt: 1, Class: class, Text: "its class is gone"})
		if tk.State() != Failed || tk.Attempt() != 1 || tk.Status().Outcome.Message != "its class is gone" {
			t.Errorf("refused as %q: %s, attempt %d, %+v", class, tk.State(), tk.Attempt(), tk.Status().Outcome)
		}
	}
}

// TestNotStartedWhileStopping: the backend could not start it, and a cancel came
// before that was known. Without an edge from Stopping it would stay there.
func TestNotStartedWhileStopping(t *testing.T) {
	t.Parallel()
	sp := spec()
	sp.Retries = 5
	ask := Event{Kind: EventCancelAsked, By: "uid 1", Text: "typo"}
	fail := Event{Kind: EventNotStarted, Attempt: 1, Text: "no memory"}
	for _, s := range []State{Assigned, Starting, Stopping} {
		tk := must(t, in(t, s, sp), ask, fail)
		if o := tk.Status().Outcome; tk.State() != Cancelled || o.Message != "cancelled by uid 1: typo" || o.Class != NoFailure {
			t.Errorf("from %s: %s, %+v", s, tk.State(), o)
		}
	}
	limit := must(t, in(t, Starting, spec()), Event{Kind: EventStopping, Attempt: 1, Cause: CauseTimeout}, fail)
	if limit.State() != Pending || limit.Status().Past[0].Outcome.Message != "no memory" {
		t.Errorf("over its time limit: %s, %+v", limit.State(), limit.Status())
	}
}

func TestCancelWins(t *testing.T) {
	t.Parallel()
	sp := spec()
	sp.Retries = 5
	ask := Event{Kind: EventCancelAsked, By: "uid 1", Text: "typo"}
	tk := must(t, in(t, Running, sp), ask)
	failed := must(t, tk, Event{Kind: EventExited, Attempt: 1, Outcome: Outcome{ExitCode: 1}})
	if failed.State() != Failed {
		t.Errorf("a failure after a cancel was asked is tried again: %s", failed.State())
	}
	won := must(t, tk, Event{Kind: EventStopping, Attempt: 1, Cause: CauseCancel}, Event{Kind: EventExited, Attempt: 1, Unprompted: true})
	if won.State() != Succeeded {
		t.Errorf("a result from before the stop took hold does not win: %s", won.State())
	}
	timeout := must(t, tk, Event{Kind: EventStopping, Attempt: 1, Cause: CauseTimeout}, Event{Kind: EventStopped, Attempt: 1})
	if timeout.State() != Cancelled || timeout.Status().Outcome.Message != "cancelled by uid 1: typo" {
		t.Errorf("cancelled while it timed out: %s, %q", timeout.State(), timeout.Status().Outcome.Message)
	}
	pending := must(t, New(1, sp, 0), ask)
	if _, err := Apply(pending, Event{Kind: EventPlaced, Attempt: 1}); !errors.Is(err, ErrStale) {
		t.Errorf("placed after a cancel was asked: %v", err)
	}
}

func TestTimeoutIsAFailureOfTheUsers(t *testing.T) {
	t.Parallel()
	sp := spec()
	sp.Timeout = time.Minute
	tk := must(t, in(t, Running, sp), Event{Kind: EventStopping, Attempt: 1, Cause: CauseTimeout}, Event{Kind: EventStopped, Attempt: 1, Outcome: Outcome{ExitCode: -1, Signal: 15}})
	if o := tk.Status().Outcome; tk.State() != Failed || o.Class != Timeout || o.Message != "exceeded its time limit of 1m" {
		t.Errorf("%s: %+v", tk.State(), o)
	}
}

// TestWhoseTimeLimit: one that the class enforces is not told as the task's own, nor is one
// of a backend, which has told it.
func TestWhoseTimeLimit(t *testing.T) {
	t.Parallel()
	told := Outcome{ExitCode: -1, Class: Timeout, Message: "Slurm ended job 7 at its time limit"}
	for _, c := range []struct {
		timeout time.Duration
		class   bool
		outcome Outcome
		want    string
	}{
		{time.Hour, false, Outcome{}, "exceeded its time limit of 1h"},
		{time.Hour, true, Outcome{}, "exceeded the time limit of class " + spec().Class + ", 1h"},
		{time.Hour, true, Outcome{Class: OutOfMemory, Message: "of another end"}, "exceeded the time limit of class " + spec().Class + ", 1h"},
		{0, false, told, told.Message},
		{0, false, Outcome{}, "exceeded its time limit"},
	} {
		sp := spec()
		sp.Timeout, sp.ClassTimeout = c.timeout, c.class
		tk := must(t, in(t, Running, sp), Event{Kind: EventStopping, Attempt: 1, Cause: CauseTimeout}, Event{Kind: EventStopped, Attempt: 1, Outcome: c.outcome})
		if o := tk.Status().Outcome; o.Class != Timeout || o.Message != c.want {
			t.Errorf("%+v; want %q", o, c.want)
		}
	}
}

// TestModelDocument keeps docs/task-model.md equal to the table.
func TestModelDocument(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "task-model.md")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- edges: made from internal/task/table.go -->\n", "<!-- /edges -->"
	head, rest, ok := strings.Cut(string(have), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around its table", path)
	}
	want := head + begin + Markdown() + end + tail
	if want == string(have) {
		return
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s differs from the table; run: UPDATE=1 go test ./internal/task", path)
}
