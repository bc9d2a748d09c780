package envmgr

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// count is how often an act was done.
func (tr *trial) count(a Act) (n int) {
	for _, did := range tr.did {
		if did == a {
			n++
		}
	}
	return n
}

// changed has its definition be another one than that of its container.
func (tr *trial) changed() {
	b := *tr.v.Box
	b.Current = false
	tr.v.Box = &b
}

// TestUnasked: what nobody has spoken of is watched, whatever becomes of it, and whatever
// is done by others.
func TestUnasked(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.v.Box = &Box{ID: "x"} // nor is its definition of today's
	tr.live()
	tr.settle(true)
	tr.expect(Ready)
	tr.later(time.Minute, false)
	tr.expect(Degraded)
	tr.die(1)
	tr.settle(true)
	tr.expect(Stopped)
	tr.live()
	tr.settle(true)
	tr.expect(Ready)
	if n := len(tr.did) - tr.count(Probe); n > 0 {
		t.Errorf("it did %v", tr.did)
	}
	tr.s = tr.s.Ask(Down)
	tr.settle(true)
	tr.expect(Stopped)
}

// TestEveryErrorHasAPause: whatever goes wrong, it is not tried again at once, it is not
// tried often, and why is said.
func TestEveryErrorHasAPause(t *testing.T) {
	t.Parallel()
	runs := func(tr *trial) { tr.v.Missing = false; tr.up() }
	for name, c := range map[string]struct {
		act Act
		set func(*trial)
	}{
		"pull":   {Pull, func(*trial) {}},
		"create": {Create, func(tr *trial) { tr.v.Missing = false }},
		"start":  {Start, func(tr *trial) { runs(tr); tr.die(0) }},
		"stop":   {Stop, func(tr *trial) { runs(tr); tr.s = tr.s.Ask(Down) }},
		"renew":  {Stop, func(tr *trial) { runs(tr); tr.changed() }},
		"fetch":  {Pull, func(tr *trial) { runs(tr); tr.changed(); tr.v.Missing = true }},
		"remove": {Remove, func(tr *trial) { runs(tr); tr.changed(); tr.die(0) }},
	} {
		for _, kind := range []error{
			docker.ErrAway, docker.ErrForbidden, docker.ErrPortTaken, docker.ErrDiskFull, docker.ErrRegistryAway, docker.ErrNoImage,
			docker.ErrUnauthorised, docker.ErrInvalid, errors.New("who knows"),
		} {
			t.Run(name+": "+kind.Error(), func(t *testing.T) {
				t.Parallel()
				tr := newTrial(t, plain)
				tr.v.Missing = true
				c.set(tr)
				if tr.s.Want == Unasked {
					tr.s = tr.s.Ask(Up)
				}
				tr.did, tr.fails = nil, map[Act]error{c.act: fmt.Errorf("%w: the reason", kind)}
				tr.settle(true)
				if n := tr.count(c.act); n != 1 {
					t.Fatalf("at once it did %v", tr.did)
				}
				tr.later(10*time.Minute, true)
				if n := tr.count(c.act); n > 10*60+1 {
					t.Errorf("within ten minutes it was tried %d times", n)
				}
				if n := tr.count(c.act); lasting(kind) && tr.s.Want == Up && c.act != Create && n != 1 {
					t.Errorf("it was tried %d times, which is of no use", n)
				}
				if !strings.Contains(tr.s.Reason, "the reason") {
					t.Errorf("it is %s (%s)", tr.s.Phase, tr.s.Reason)
				}
				if name == "fetch" && tr.count(Stop) > 0 {
					t.Error("it was ended with nothing to take its place")
				}
				tr.fails = nil
				want := Ready
				if tr.s.Want == Down {
					want = Stopped
				} else {
					tr.s = tr.s.Ask(Up)
				}
				tr.later(3*time.Minute, true)
				tr.expect(want)
			})
		}
	}
}

// TestRestartingBox: one that the engine is about to start again does not run; its ends
// count, and it is not fought over.
func TestRestartingBox(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.v.Box = &Box{ID: "x", Adopted: "docker compose", Current: true, Restarts: true}
	tr.live()
	tr.up()
	tr.did = nil
	restarting := func() {
		b := *tr.v.Box
		b.Restarting, b.Exit, b.Finished = true, 3, tr.now
		tr.v.Box = &b
	}
	for n := range tr.p.MostEnds {
		restarting()
		tr.settle(true)
		tr.later(20*time.Second, true)
		tr.expect(BackingOff)
		if len(tr.s.Ends) != n+1 || !strings.Contains(tr.s.Reason, "exit code 3") {
			t.Fatalf("after %d ends it has %d, and says %q", n+1, len(tr.s.Ends), tr.s.Reason)
		}
		tr.live()
		tr.settle(true)
	}
	tr.expect(Degraded)
	tr.later(tr.p.Healthy+tr.p.Steady, true)
	tr.expect(Ready)
	if n := len(tr.did) - tr.count(Probe); n > 0 {
		t.Errorf("it did %v", tr.did)
	}
	restarting()
	tr.s = tr.s.Ask(Down)
	tr.settle(true)
	if tr.count(Stop) != 1 {
		t.Error("the engine was left to start it again")
	}
}

// TestAnswersAndIsNotWell: one that says what is wrong with it is not ended for that.
func TestAnswersAndIsNotWell(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain).up()
	busy := probe.Result{Alive: true, Detail: "PING was answered with -BUSY", Err: probe.ErrNotReady}
	for range 20 {
		tr.now = tr.now.Add(tr.p.Doubt)
		tr.s = tr.s.Probed(tr.def, tr.p, tr.s.Epoch, busy, tr.now)
		tr.settle(true)
	}
	tr.expect(Degraded)
	if tr.count(Stop) > 0 || !strings.Contains(tr.s.Reason, "it answers, and is not well: PING was answered with -BUSY") {
		t.Errorf("it says %q, and did %v", tr.s.Reason, tr.did)
	}
	tr.later(time.Minute, true)
	tr.expect(Ready)
}

// TestClockOfTheEngine: however far the engine's clock is from ours, what ended is begun
// again soon, and what does not answer is told of in time and not before.
func TestClockOfTheEngine(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-time.Hour, time.Hour} {
		tr := newTrial(t, plain)
		tr.ahead = ahead
		tr.v.Box = &Box{ID: "x", Adopted: "docker compose", Current: true, Restarts: true}
		tr.live()
		tr.up()
		for range 2 {
			tr.die(1)
			tr.settle(true)
			tr.later(10*time.Second, true)
			tr.expect(Ready)
		}
		tr.die(1)
		tr.settle(false)
		tr.later(20*time.Second, false)
		tr.expect(Probing)
		tr.later(tr.p.StartTimeout, false)
		tr.expect(Degraded)
	}
}

// TestReasonsStay: a service that does not get better has the same reason from one moment
// to the next.
func TestReasonsStay(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.s = tr.s.Ask(Up)
	tr.settle(false)
	tr.later(2*time.Minute, false)
	tr.expect(Degraded)
	reason := tr.s.Reason
	tr.later(time.Minute, false)
	if tr.s.Reason != reason {
		t.Errorf("first %q, then %q", reason, tr.s.Reason)
	}
}

// TestAskedWhileAway: who asks for one that has failed, while the engine is away, has it
// tried again.
func TestAskedWhileAway(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain)
	tr.fails = map[Act]error{Create: docker.ErrInvalid}
	tr.up()
	tr.expect(Failed)
	tr.v.Away = "the engine is away"
	tr.settle(true)
	tr.fails = nil
	tr.up()
	tr.v.Away = ""
	tr.settle(true)
	tr.expect(Ready)
}

// TestStopThatFailed: an end after a stop that has come to nothing is no end that was asked
// for.
func TestStopThatFailed(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, plain).up()
	tr.fails = map[Act]error{Stop: docker.ErrAway}
	tr.s = tr.s.Again()
	tr.settle(true)
	tr.die(1)
	tr.settle(true)
	if len(tr.s.Ends) != 1 {
		t.Errorf("it has ended %d times", len(tr.s.Ends))
	}
}
