package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// step is one thing that happens to a world. Steps are drawn before the bubble
// begins, so that rapid can shrink them.
type step struct {
	what   string
	n      int
	script string
	spec   func(*task.Spec)
}

// TestRandomHistories submits, cancels, retries, restarts, breaks and mends in
// any order. Then everything is mended, and
//   - every task has ended, once, or nothing but a person can make it go on;
//   - no attempt began twice;
//   - only active tasks hold something;
//   - the queue's records and indexes agree.
//
// How many are tried is chosen in TestMain.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 5, 40).Draw(rt, "steps")
		if err := history(t, rapid.Uint64().Draw(rt, "seed"), steps); err != nil {
			rt.Fatal(err)
		}
	})
}

func drawStep(t *rapid.T) step {
	s := step{what: rapid.SampledFrom([]string{
		"submit", "submit", "submit", "submit", "cancel", "cancel", "retry", "restart", "die", "pass", "pass", "pass",
		"pause", "resume", "lose", "repeat", "shuffle", "delay", "mend", "fail launch", "down", "disk full", "vanish", "exit",
	}).Draw(t, "what"), n: rapid.IntRange(0, 30).Draw(t, "n")}
	if s.what != "submit" {
		return s
	}
	s.script = rapid.SampledFrom([]string{
		`{}`, `{"run_ms": 300}`, `{"run_ms": 300, "exit": 1}`, `{"run_ms": 20000}`, `{"hang": true}`,
		`{"hang": true, "deaf": true}`, `{"fail": "no memory"}`, `{"run_ms": 50, "class": "gpu_lost"}`, `{"run_ms": 100, "signal": 9}`,
	}).Draw(t, "script")
	class := rapid.SampledFrom([]string{"c", "c", "few", "gone"}).Draw(t, "class")
	tries := rapid.IntRange(0, 3).Draw(t, "retries")
	limit := rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "limit")
	lost := rapid.SampledFrom([]task.LostPolicy{task.LostFail, task.LostRetry}).Draw(t, "on_lost")
	cpu := rapid.SampledFrom([]int64{0, 1000, 500, 2000}).Draw(t, "cpu")
	rank := rapid.Int32Range(-3, 3).Draw(t, "priority")
	waits := rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "waits")
	when := task.Condition(rapid.IntRange(0, 2).Draw(t, "when"))
	s.spec = func(sp *task.Spec) {
		sp.Class, sp.Retries, sp.Timeout, sp.OnLost, sp.Priority, sp.Resources.CPUMilli = class, tries, limit, lost, rank, cpu
		var self int
		if _, err := fmt.Sscanf(sp.ID, "t-%d", &self); err != nil {
			return
		}
		for i := 1; i <= waits && self-i >= 0; i++ {
			sp.After = append(sp.After, task.Dep{ID: name("t", self-i), When: when})
		}
	}
	return s
}

// broken is how a test in a bubble ends early without ending the test around it,
// which rapid wants to go on with.
type broken struct{ testing.TB }

type failure string

func (b broken) Errorf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }
func (b broken) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }
func (b broken) Fatal(args ...any)                 { panic(failure(fmt.Sprint(args...))) }

// history runs the steps in a bubble of their own.
func history(t *testing.T, seed uint64, steps []step) (err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings{cpus: 3, classes: map[string]engine.Class{
			"c": class("c", func(c *engine.Class) { c.Short = true }), "few": class("few", parallel(1)),
		}})
		w.fake.Seed = seed
		w.TB = broken{t}
		defer func() {
			w.TB = t
			if f, ok := recover().(failure); ok {
				w.store.breakWith(nil)
				err = errors.New(string(f))
			}
		}()
		h := player{world: w, paused: map[string]uint64{}}
		for _, s := range steps {
			h.play(s)
		}
		h.settle()
	})
	return err
}

// player plays the steps.
type player struct {
	*world
	ids []string
	// paused has, for the classes that are paused, how long the event log was then.
	paused map[string]uint64
}

// any returns one of the tasks; "" when there are none.
func (p *player) any(n int) string {
	if len(p.ids) == 0 {
		return ""
	}
	return p.ids[n%len(p.ids)]
}

func (p *player) play(s step) {
	switch s.what {
	case "submit":
		id := name("t", len(p.ids))
		p.ids = append(p.ids, id)
		p.submit(job(id, s.script, s.spec))
	case "cancel", "retry":
		p.ask(s.what, p.any(s.n))
	case "restart":
		p.restart()
	case "die":
		p.stop()
		p.pass(time.Duration(s.n) * time.Second)
		p.start()
	case "pause", "resume":
		p.askOfClass(s.what, []string{"c", "few"}[s.n%2])
	case "pass":
		p.pass(time.Duration(s.n*s.n) * 10 * time.Millisecond)
	case "fail launch":
		p.fake.FailLaunch(s.n%4, errors.New("no connection"))
	case "down":
		p.fake.SetDown("it rests")
	case "disk full":
		p.store.breakWith(diskFull())
	case "mend":
		p.mend()
	case "vanish", "exit":
		if id := p.any(s.n); id != "" {
			ref := p.get(id).Ref()
			if s.what == "exit" {
				p.fake.Exit(ref, task.Outcome{ExitCode: s.n % 2}, nil)
			} else {
				p.fake.Vanish(ref, "nobody saw it")
			}
		}
	default:
		p.fake.SetFaults(faultsOf(s))
	}
	for _, id := range p.ids {
		p.check(id)
	}
	p.checkPaused()
}

// askOfClass pauses or resumes a class, and does not wait for long.
func (p *player) askOfClass(what, class string) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var err error
	if what == "pause" {
		if _, _, err = p.engine.PauseClass(ctx, class, "uid 7", ""); err == nil && p.paused[class] == 0 {
			p.paused[class] = p.queue.LastIndex() + 1
		}
	} else if _, _, err = p.engine.ResumeClass(ctx, class, "uid 7"); err == nil {
		delete(p.paused, class)
	}
	switch {
	case err == nil:
	case errors.Is(err, context.DeadlineExceeded):
		p.wait()
		p.noteLate(class)
	case task.CodeOf(err) != task.CodeExhausted:
		p.Fatalf("%s class %s: %v", what, class, err)
	}
	p.wait()
}

// noteLate is for an answer that came too late: it may have been done since, or be
// done later. Nothing is then known of the class.
func (p *player) noteLate(class string) { delete(p.paused, class) }

// checkPaused: nothing of a paused class is placed.
func (p *player) checkPaused() {
	for class, from := range p.paused {
		all, err := p.queue.Records(from, 1_000_000)
		must(p.TB, err)
		for _, r := range all {
			if r.Kind == task.EventPlaced && r.Class == class {
				p.Fatalf("%s was placed, and class %s is paused", r.ID, class)
			}
		}
	}
}

func faultsOf(s step) backendtest.Faults {
	switch s.what {
	case "lose":
		n := 0
		return backendtest.Faults{Lose: func(task.Change) bool { n++; return n%(2+s.n%3) == 0 }}
	case "repeat":
		return backendtest.Faults{Repeat: 1 + s.n%3}
	case "shuffle":
		return backendtest.Faults{Shuffle: true}
	default:
		return backendtest.Faults{Delay: time.Duration(s.n) * 50 * time.Millisecond}
	}
}

// ask lets a person ask for something, and not wait for long.
func (p *player) ask(what, id string) {
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var err error
	if what == "cancel" {
		_, err = p.engine.Cancel(ctx, p.get(id), "uid 7", "")
	} else {
		_, err = p.engine.Retry(ctx, p.get(id), "uid 7")
	}
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded):
	case task.CodeOf(err) == task.CodeConflict, task.CodeOf(err) == task.CodeExhausted:
	default:
		p.Fatalf("%s %s: %v", what, id, err)
	}
	p.wait()
}

// check is what holds at every moment.
func (p *player) check(id string) {
	t := p.get(id)
	p.why(id)
	if held := t.Status().Lease.CPUMilli > 0; held != t.State().Active() {
		p.Fatalf("%s is %s and holds %+v", id, t.State(), t.Status().Lease)
	}
	p.checkBegun(p.fake)
}

func (p *player) mend() {
	p.store.breakWith(nil)
	p.fake.SetDown("")
	p.fake.FailLaunch(0, nil)
	p.fake.SetFaults(backendtest.Faults{})
	p.wait()
}

// settle mends everything, and expects that all comes to its end.
func (p *player) settle() {
	p.mend()
	p.stop()
	for class := range p.queue.Paused() {
		_, _, err := p.queue.Resume(context.Background(), class)
		must(p.TB, err)
	}
	p.classes = maps.Clone(p.classes)
	p.classes["gone"] = class("gone") // it is back
	p.start()                         // the backend tells what had been lost
	for range 40 {
		p.pass(10 * time.Minute)
		for _, ref := range p.fake.Running() { // what hangs, and is not to be stopped
			p.fake.Exit(ref, task.Outcome{}, nil)
		}
	}
	p.wait()
	for _, id := range p.ids {
		p.check(id)
		if t := p.get(id); !t.State().Terminal() {
			p.Fatalf("%s is %s, attempt %d: %s", id, t.State(), t.Attempt(), p.why(id))
		}
	}
	if known := p.fake.Known(); len(known) != 0 {
		p.Fatalf("the backend was not told to forget %v", known)
	}
	p.checkLog()
}

// checkLog: each attempt has ended once at most, by the log.
func (p *player) checkLog() {
	all, err := p.queue.Records(1, 1_000_000)
	must(p.TB, err)
	ends := map[task.Ref]int{}
	for _, r := range all {
		if r.To.Terminal() {
			ends[task.Ref{Seq: r.Seq, Attempt: r.Attempt}]++
		}
	}
	for ref, n := range ends {
		if n > 1 {
			p.Fatalf("attempt %d of task %d ended %d times", ref.Attempt, ref.Seq, n)
		}
	}
}
