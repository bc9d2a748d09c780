package envmgr

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

var (
	began = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	plain = Definition{Name: "redis", Image: "redis:7", Ready: probe.Spec{Kind: probe.Redis}}
)

// trial is one service with an engine that does at once what it is told.
type trial struct {
	t     rapid.TB
	def   Definition
	p     Policy
	s     State
	v     View
	now   time.Time
	ahead time.Duration // the engine's clock
	lives int
	did   []Act
	// mayStop: somebody has asked for it to be started anew.
	mayStop bool
	fails   map[Act]error // what comes of acts, instead of their effects
}

func newTrial(t rapid.TB, d Definition) *trial {
	tr := &trial{t: t, def: d, p: Defaults(), now: began}
	tr.s.Ended = true
	return tr
}

// go on decides, and does what was decided, until there is nothing more to do now. Its
// answers come from ready.
func (tr *trial) settle(ready bool) {
	tr.t.Helper()
	for range 50 {
		var step Step
		tr.s, step = Next(tr.def, tr.p, tr.s, tr.v, tr.now)
		if step.Act == Nothing {
			return
		}
		tr.did = append(tr.did, step.Act)
		tr.s = tr.s.Began(step.Act)
		tr.perform(step.Act, ready)
	}
	tr.t.Fatalf("it does not come to rest: %v", tr.did)
}

func (tr *trial) perform(a Act, ready bool) {
	if err := tr.fails[a]; err != nil {
		tr.s = tr.s.Did(tr.def, a, err, tr.now)
		return
	}
	switch a {
	case Nothing:
	case Pull:
		tr.v.Missing = false
	case Create:
		tr.v.Box = &Box{ID: fmt.Sprint("c", tr.lives), Current: true}
		tr.live()
	case Start:
		tr.live()
	case Stop:
		tr.die(0)
	case Remove:
		tr.v.Box = nil
	case Probe:
		r := probe.Result{Ready: ready, Alive: ready, Detail: "it is as it is"}
		tr.s = tr.s.Probed(tr.def, tr.p, tr.s.Epoch, r, tr.now)
		return
	}
	tr.s = tr.s.Did(tr.def, a, nil, tr.now)
}

func (tr *trial) live() {
	tr.lives++
	b := *tr.v.Box
	b.Phase, b.Started, b.Finished, b.Exit, b.Restarting = docker.Running, tr.now.Add(tr.ahead+time.Duration(tr.lives)), time.Time{}, 0, false
	tr.v.Box = &b
}

func (tr *trial) die(code int) {
	b := *tr.v.Box
	b.Phase, b.Finished, b.Exit, b.Restarting = docker.Exited, tr.now.Add(tr.ahead), code, false
	tr.v.Box = &b
}

// later lets time pass in steps of the clock that it asks for.
func (tr *trial) later(d time.Duration, ready bool) {
	end := tr.now.Add(d)
	for tr.now.Before(end) {
		_, step := Next(tr.def, tr.p, tr.s, tr.v, tr.now)
		next := end
		if !step.At.IsZero() && step.At.Before(end) && step.At.After(tr.now) {
			next = step.At
		}
		tr.now = next
		tr.settle(ready)
	}
}

func (tr *trial) expect(p Phase) {
	tr.t.Helper()
	if tr.s.Phase != p {
		tr.t.Fatalf("it is %s (%s), and should be %s; it did %v", tr.s.Phase, tr.s.Reason, p, tr.did)
	}
}

func (tr *trial) up() *trial { tr.s = tr.s.Ask(Up); tr.settle(true); return tr }

// TestFromNothing: pulled, made, and ready once it answers; then down, and up with what
// is there.
func TestFromNothing(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.v.Missing = true
	tr.settle(true)
	tr.expect(Stopped)
	tr.s = tr.s.Ask(Up)
	tr.settle(false)
	tr.expect(Probing)
	tr.later(time.Second, false)
	tr.expect(Probing)
	tr.later(time.Second, true)
	tr.expect(Ready)
	if want := []Act{Pull, Create, Probe}; !slices.Equal(tr.did[:3], want) {
		t.Errorf("it did %v", tr.did)
	}
	tr.s, tr.did = tr.s.Ask(Down), nil
	tr.settle(true)
	tr.expect(Stopped)
	tr.up()
	tr.expect(Ready)
	if want := []Act{Stop, Start, Probe}; !slices.Equal(tr.did, want) {
		t.Errorf("it did %v", tr.did)
	}
}

// TestWaitsForItsNeeds: nothing is made before what is needed is ready, and a need that
// has failed is named.
func TestWaitsForItsNeeds(t *testing.T) {
	t.Parallel()
	d := plain
	d.Name, d.Needs = "reddb", []Need{{Name: "redis"}}
	tr := newTrial(t, d)
	tr.v.Needs = []NeedView{{Need: d.Needs[0], Why: "redis, which it needs, is starting"}}
	tr.up()
	tr.expect(Waiting)
	if tr.s.Reason != tr.v.Needs[0].Why {
		t.Errorf("it says %q", tr.s.Reason)
	}
	tr.v.Needs[0].Met = true
	tr.settle(true)
	tr.expect(Ready)
	tr.v.Needs[0].Met = false
	tr.settle(true)
	tr.expect(Degraded) // it is told, and goes on
	if len(tr.did) > 2 {
		t.Errorf("it did %v", tr.did)
	}
}

// TestCrashLoop: the first end is mended at once, each further one later, and after
// enough of them it is left alone, until somebody asks.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain).up()
	starts := 0
	for range 40 {
		tr.did = nil
		tr.die(3)
		tr.settle(true)
		if tr.s.Phase == Failed {
			break
		}
		tr.later(time.Minute/2, true)
		tr.expect(Ready)
		starts++
	}
	tr.expect(Failed)
	if starts != tr.p.MostEnds-1 {
		t.Errorf("it was started again %d times", starts)
	}
	tr.later(time.Hour, true)
	tr.expect(Failed)
	tr.up()
	tr.expect(Ready)
}

// TestEndsAreForgotten: who answers for long enough starts with a clean slate.
func TestEndsAreForgotten(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain).up()
	for range 3 * tr.p.MostEnds {
		tr.die(1)
		tr.settle(true)
		tr.later(2*tr.p.Healthy, true)
		tr.expect(Ready)
	}
}

// TestSilentIsRestarted: one that answered and does not any more is started anew, and
// one that never did is left to itself.
func TestSilentIsRestarted(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain).up()
	tr.did = nil
	tr.later(20*time.Second, false)
	stops := 0
	for _, a := range tr.did {
		if a == Stop {
			stops++
		}
	}
	if stops != 1 || len(tr.s.Ends) != 1 {
		t.Errorf("it was stopped %d times, with %d ends: %v", stops, len(tr.s.Ends), tr.did)
	}
	never := newTrial(t, plain)
	never.s = never.s.Ask(Up)
	never.settle(false)
	never.later(5*time.Minute, false)
	never.expect(Degraded)
	if never.lives != 1 {
		t.Errorf("it lived %d times", never.lives)
	}
	never.later(time.Minute, true)
	never.expect(Ready)
}

// TestChangedDefinition: ours is made anew, an adopted one is left as it is.
func TestChangedDefinition(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain).up()
	tr.did = nil
	b := *tr.v.Box
	b.Current = false
	tr.v.Box = &b
	tr.settle(true)
	tr.expect(Ready)
	if want := []Act{Stop, Remove, Create, Probe}; !slices.Equal(tr.did, want) {
		t.Errorf("it did %v", tr.did)
	}
}

// TestOnce: what is to be done once is not ready while it is being done.
func TestOnce(t *testing.T) {
	t.Parallel()
	d := plain
	d.Once, d.Ready = true, probe.Spec{Kind: probe.None}
	tr := newTrial(t, d).up()
	tr.expect(Probing)
	tr.later(time.Hour, true)
	tr.expect(Probing)
	tr.die(0)
	tr.settle(true)
	tr.expect(Done)
}

// TestNameOfAnother: nothing is done while the name is somebody else's.
func TestNameOfAnother(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.v.Rival = "there is a container redis that is not ours"
	tr.up()
	tr.expect(Blocked)
	if len(tr.did) > 0 {
		t.Errorf("it did %v", tr.did)
	}
	tr.v.Rival = ""
	tr.settle(true)
	tr.expect(Ready)
}

// TestTheEngineRestartsIt: what the engine starts again by itself is left to it for as
// long as it takes.
func TestTheEngineRestartsIt(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.v.Box = &Box{ID: "x", Adopted: "docker compose", Current: true, Restarts: true}
	tr.live()
	tr.up()
	tr.did = nil
	tr.die(1)
	tr.settle(true)
	tr.expect(BackingOff)
	tr.now = tr.now.Add(time.Second)
	tr.live()
	tr.settle(true)
	tr.expect(Ready)
	tr.die(1)
	tr.settle(true)
	tr.later(10*time.Second, true)
	tr.expect(Ready)
	for _, a := range tr.did[1:] {
		if a == Stop || a == Remove || a == Create {
			t.Errorf("it did %v", tr.did)
		}
	}
}

// TestWhateverHappens: whatever an engine and people do to a service, an adopted one is
// never removed or made anew, none is stopped that nobody wants stopped, it comes to
// rest, and once things are well it is ready.
func TestWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := plain
		if rapid.Bool().Draw(t, "needs") {
			d.Needs = []Need{{Name: "other", Restart: rapid.Bool().Draw(t, "with")}}
		}
		tr := newTrial(t, d)
		if rapid.Bool().Draw(t, "adopted") {
			tr.v.Box = &Box{ID: "x", Adopted: "docker compose", Current: true, Restarts: rapid.Bool().Draw(t, "restarts")}
		}
		if len(d.Needs) > 0 {
			tr.v.Needs = []NeedView{{Need: d.Needs[0], Met: true, Epoch: Epoch{ID: "o"}}}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			adopted := tr.v.Box != nil && tr.v.Box.Adopted != ""
			tr.did, tr.mayStop = nil, tr.s.Renew
			ready := rapid.Bool().Draw(t, "answers")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				tr.s = tr.s.Ask(Up)
			case 1:
				tr.s = tr.s.Ask(Down)
			case 2:
				tr.s, tr.mayStop = tr.s.Again(), true
			case 3:
				if tr.v.Box.running() {
					tr.die(rapid.IntRange(0, 140).Draw(t, "code"))
				}
			case 4:
				if tr.v.Box != nil && !tr.v.Box.running() {
					tr.live()
				}
			case 5:
				tr.v.Box, adopted = nil, false
			case 6:
				tr.v.Away = rapid.SampledFrom([]string{"", "the engine is away"}).Draw(t, "away")
			case 7:
				if len(tr.v.Needs) > 0 {
					tr.v.Needs[0].Met = rapid.Bool().Draw(t, "met")
				}
			case 8:
				tr.v.Missing = rapid.Bool().Draw(t, "missing") && tr.v.Box == nil
			case 9:
				tr.now = tr.now.Add(time.Duration(rapid.IntRange(1, 1e6).Draw(t, "ms")) * time.Millisecond)
			}
			tr.settle(ready)
			for _, a := range tr.did {
				if a != Probe && tr.s.Want == Unasked {
					t.Fatalf("nobody has asked: %v", tr.did)
				}
				if a == Stop && tr.s.Want == Up && !tr.mayStop {
					t.Fatalf("nobody wants it stopped: %v", tr.did)
				}
				if adopted && (a == Create || a == Remove) {
					t.Fatalf("an adopted one: %v", tr.did)
				}
				if a != Probe && tr.v.Away != "" {
					t.Fatalf("with nobody to do it: %v", tr.did)
				}
			}
		}
		tr.v.Away, tr.s = "", tr.s.Ask(Down).Ask(Up)
		for i := range tr.v.Needs {
			tr.v.Needs[i].Met = true
		}
		tr.settle(true)
		tr.later(5*time.Minute, true)
		tr.expect(Ready)
	})
}
