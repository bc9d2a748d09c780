package envmgr

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// care is all that is known of the services. It belongs to the goroutine of Run.
type care struct {
	*Supervisor
	ctx      context.Context
	work     sync.WaitGroup // all that was begun
	engine   docker.Engine
	awayFor  string // why the engine does not answer; "" = it does
	services map[string]*ward
	names    []string  // what is needed comes before who needs it
	dirty    bool      // there is something to publish
	at       time.Time // of the next decision by the clock
	began    time.Time
}

// ward is what is known of one service.
type ward struct {
	def    Definition
	state  State
	seen   sighting
	looked bool // seen is something
	// looking: it is being looked at; stale: it is to be looked at once more, after that or
	// after what is being done.
	looking, stale bool
	lookAt         time.Time // again, since the last look has failed; zero = it has not
	// acts counts what was done: a look from before that may show what is not so any more.
	acts   int
	cancel context.CancelFunc // gives up what is being done
	pull   docker.Progress
	queued bool // it waits until other images are pulled
	// output is what it printed last, once it has failed.
	output []string

	trouble time.Time // since when it is in some; zero = it is not
	late    bool      // that is for longer than a start may take
}

func newCare(ctx context.Context, s *Supervisor) *care {
	c := &care{Supervisor: s, ctx: ctx, services: map[string]*ward{}, names: s.opts.Set.Names(), awayFor: "the container engine is not reached yet", dirty: true}
	now := s.opts.Now()
	c.began = now
	for _, name := range c.names {
		d, _ := s.opts.Set.Get(name)
		w := &ward{def: d}
		w.state.Ended = true
		w.state = w.state.to(EngineAway, c.awayFor, now)
		c.services[name] = w
	}
	return c
}

// run decides whenever there is something new, until ctx ends.
func (c *care) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	sweep := time.NewTicker(lookEvery)
	defer sweep.Stop()
	for {
		c.decide()
		timer.Reset(c.pause())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case do := <-c.calls:
			do(c)
		case <-c.prod:
			c.lookAtTouched()
		case <-sweep.C:
			for _, name := range c.names {
				c.lookSoon(c.services[name])
			}
		case <-timer.C:
		}
	}
}

// pause is how long until something is to be decided by the clock.
func (c *care) pause() time.Duration {
	if c.at.IsZero() {
		return time.Hour
	}
	return max(c.at.Sub(c.opts.Now()), 0)
}

// decide asks Next of each service what is to be done, and has it done. What becomes of
// one may be news for those that need it, so it goes on until nothing changes.
func (c *care) decide() {
	now := c.opts.Now()
	c.at = time.Time{}
	at := map[string]time.Time{}
	for range len(c.names) + 1 {
		moved := false
		for _, name := range c.names {
			w := c.services[name]
			before := w.state.Phase
			step := c.next(w, now)
			at[name] = step.At
			if step.Act != Nothing {
				c.begin(w, step)
			}
			moved = moved || w.state.Phase != before
		}
		if !moved {
			break
		}
	}
	for _, name := range c.names {
		w := c.services[name]
		for _, t := range []time.Time{at[name], c.lookAgain(w, now), c.judge(w, now)} {
			if !t.IsZero() && (c.at.IsZero() || t.Before(c.at)) {
				c.at = t
			}
		}
	}
	if c.dirty {
		c.dirty = false
		c.publish(c.snapshot())
	}
}

func (c *care) next(w *ward, now time.Time) Step {
	before := w.state
	var step Step
	w.state, step = Next(w.def, c.opts.Policy, before, c.view(w), now)
	if w.state.Phase != before.Phase || w.state.Reason != before.Reason || w.state.Epoch != before.Epoch {
		c.dirty = true
	}
	if w.state.Phase != before.Phase {
		c.logPhase(w, before.Phase)
		if w.output = nil; w.state.Phase == Failed {
			c.tail(w)
		}
	}
	return step
}

func (c *care) logPhase(w *ward, from Phase) {
	level := slog.LevelInfo
	if p := w.state.Phase; p == Failed {
		level = slog.LevelError
	} else if p == Degraded || p == BackingOff || p == Blocked {
		level = slog.LevelWarn
	}
	c.opts.Logger.Log(c.ctx, level, "service", "service", w.def.Name, "from", from.String(), "phase", w.state.Phase.String(), "reason", w.state.Reason)
}

// view is what is to be seen of a service.
func (c *care) view(w *ward) View {
	v := View{Away: c.awayFor, Missing: w.seen.missing, Box: w.seen.box, Rival: w.seen.rival}
	if v.Away == "" && !w.looked {
		v.Away = "it was not looked at yet"
		if w.seen.err != nil {
			v.Away = w.seen.err.Error()
		}
	}
	for _, n := range w.def.Needs {
		v.Needs = append(v.Needs, c.need(n))
	}
	for _, user := range c.opts.Set.Users(w.def.Name) {
		u := c.services[user]
		if runs := u.seen.box.running() || u.seen.box.restarting(); u.state.Want == Down && (runs || u.state.Doing != Nothing) {
			v.Users = append(v.Users, user)
		}
	}
	return v
}

// need is how a need stands.
func (c *care) need(n Need) NeedView {
	out := NeedView{Need: n}
	w := c.services[n.Name]
	if w == nil { // an optional one that nobody has defined
		out.Hopeless, out.Why = true, n.Name+" is not defined"
		return out
	}
	s := w.state
	out.Epoch = s.Epoch
	switch n.When {
	case WhenStarted:
		out.Met = w.seen.box.running()
	case WhenDone:
		out.Met = s.Phase == Done
	default:
		out.Met = s.Phase == Ready || s.Phase == Done
	}
	if out.Met {
		return out
	}
	out.Hopeless = c.hopeless(w)
	out.Why = n.Name + ", which it needs, is " + inWords(s.Phase)
	if s.Reason != "" && (out.Hopeless || s.Phase == Degraded || s.Phase == Blocked) {
		out.Why += ": " + s.Reason
	}
	return out
}

func inWords(p Phase) string {
	switch p {
	case Probing, Starting, Creating:
		return "starting"
	case BackingOff:
		return "about to be started again"
	case Pulling:
		return "waiting for its image"
	case EngineAway:
		return "out of sight"
	case Done:
		return "done"
	default:
		return p.String()
	}
}

// hopeless says that it will not be ready by itself.
func (c *care) hopeless(w *ward) bool {
	switch {
	case w.state.Broken != "", w.state.Phase == Blocked && w.seen.rival != "":
		return true
	case w.state.Want != Up && !w.seen.box.running():
		return true
	case w.state.Phase == Degraded, w.state.Phase == BackingOff:
		return w.seen.box != nil && w.seen.box.Restarts && w.state.loops(c.opts.Policy, c.opts.Now())
	case w.state.Phase == Waiting:
		for _, n := range w.def.Needs {
			if v := c.need(n); !v.Met && v.Hopeless && !n.Optional {
				return true
			}
		}
	}
	return false
}

// ask wants services to be up or down.
func (c *care) ask(want Want, names []string) {
	for _, name := range names {
		w := c.services[name]
		w.state, w.trouble = w.state.Ask(want), time.Time{}
		if want == Down && w.state.Doing == Pull {
			w.cancel() // nobody is to wait for what nobody wants
		}
	}
	c.dirty = true
}

func (c *care) again(names []string) {
	for _, name := range names {
		w := c.services[name]
		w.state, w.trouble = w.state.Again(), time.Time{}
	}
	c.dirty = true
}

// snapshot is what is published.
func (c *care) snapshot() Snapshot {
	snap := Snapshot{Away: c.awayFor, Engine: c.engine, Strays: c.knownStrays()}
	for _, name := range c.names {
		w := c.services[name]
		s := w.state
		one := Status{
			Name: name, Image: w.def.Image, Required: w.def.Required, Want: s.Want, Phase: s.Phase, Since: s.Since, Reason: withOutput(s.Reason, w.output), Output: w.output,
			Hopeless: s.Want == Up && c.hopeless(w), Late: w.late, ReadyAt: s.ReadyAt, Ends: len(s.Ends), Probe: s.Probe.Last.Detail, Pull: w.pull,
		}
		if w.queued {
			one.Reason = "it waits until other images are pulled"
		}
		for _, n := range w.def.Needs {
			one.Needs = append(one.Needs, n.Name)
		}
		if b := w.seen.box; b != nil {
			one.Container, one.Adopted = b.ID, b.Adopted
			if b.running() {
				one.Started, one.Found = b.Started, b.Started.Before(c.began)
			}
			one.Ports, one.Networks = slices.Clone(w.seen.service.Ports), w.seen.service.Networks
		}
		snap.Services = append(snap.Services, one)
	}
	return snap
}
