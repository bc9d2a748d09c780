package backendtest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Script is what a task of a Fake does. It is read from the payload or, without
// one, from the first word of the command, as JSON; what is neither ends at once
// with exit code 0.
type Script struct {
	RunMS  int             `json:"run_ms"` // how long it runs
	Exit   int             `json:"exit"`
	Signal int             `json:"signal"`
	Class  string          `json:"class"`  // failure class, by name
	Result json.RawMessage `json:"result"` // what it gives back
	Hang   bool            `json:"hang"`   // it runs until it is told otherwise
	Deaf   bool            `json:"deaf"`   // SIGTERM does not end it, only force after the grace
	Fail   string          `json:"fail"`   // it cannot be started, and this is why
	Wait   bool            `json:"wait"`   // it does not begin until Begin is called
}

// scriptOf reads the script of a task.
func scriptOf(s *task.Spec) Script {
	var sc Script
	text := []byte(s.Payload)
	if len(text) == 0 && len(s.Argv) > 0 {
		text = []byte(s.Argv[0])
	}
	if json.Unmarshal(text, &sc) != nil {
		return Script{}
	}
	return sc
}

// Fake is a backend whose tasks follow a Script. It is what outlives daemons:
// engines may come and go over the same Fake. The fields arrange its faults;
// they are set before it is used, or under no load.
//
// All its randomness comes from Seed, and its time from package time, so a test
// in a synctest bubble sees the same every time.
type Fake struct {
	Called string // its name; "" = "fake"
	Host   string // node of outcomes; "" = "fakehost"
	Seed   uint64

	mu       sync.Mutex
	rng      *rand.Rand
	runs     map[task.Ref]*run
	order    []task.Ref
	begun    map[task.Ref]int // how often an attempt began: never more than once
	pending  []task.Change
	faults   Faults
	failing  int // Launch calls that still fail
	failErr  error
	down     string
	watching bool
	wake     chan struct{}
}

// Faults are what goes wrong with reports.
type Faults struct {
	Lose    func(task.Change) bool // reports that are held back until the next Watch
	Repeat  int                    // every report comes so many times more
	Shuffle bool                   // reports of one delivery come in any order
	Delay   time.Duration          // between an event and its report
}

// run is one attempt.
type run struct {
	task    task.Task
	script  Script
	history []task.Change
	timer   *time.Timer
	state   task.State // as far as this backend has come; Assigned = not begun
	stop    bool
}

// NewFake makes an empty one.
func NewFake() *Fake {
	return &Fake{
		runs: map[task.Ref]*run{}, begun: map[task.Ref]int{}, wake: make(chan struct{}, 1),
	}
}

// Name returns its name.
func (f *Fake) Name() string {
	if f.Called == "" {
		return "fake"
	}
	return f.Called
}

// Down returns what SetDown set.
func (f *Fake) Down() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

// SetDown makes Launch impossible, or possible again with "".
func (f *Fake) SetDown(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = why
	f.poke()
}

// FailLaunch makes the next n calls of Launch fail after they have taken in the
// first half of their tasks: the caller cannot know what arrived.
func (f *Fake) FailLaunch(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing, f.failErr = n, err
}

// SetFaults arranges what goes wrong with reports from now on.
func (f *Fake) SetFaults(faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = faults
}

// Launch takes in tasks. What it knows already it reports again.
func (f *Fake) Launch(ctx context.Context, tasks []task.Task) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.down != "" {
		return task.Errorf(task.CodeUnavailable, "%s", f.down)
	}
	err := error(nil)
	if f.failing > 0 {
		f.failing--
		tasks, err = tasks[:len(tasks)/2], f.failErr
	}
	for _, t := range tasks {
		if r := f.runs[t.Ref()]; r != nil {
			f.tell(r.history...)
			continue
		}
		r := f.add(t)
		if !r.script.Wait {
			f.begin(r)
		}
	}
	return err
}

func (f *Fake) add(t task.Task) *run {
	r := &run{task: t, script: scriptOf(t.Spec), state: task.Assigned}
	f.runs[t.Ref()] = r
	f.order = append(f.order, t.Ref())
	return r
}

// begin starts an attempt.
func (f *Fake) begin(r *run) {
	if r.state != task.Assigned {
		return
	}
	if r.script.Fail != "" {
		f.end(r, task.Event{Kind: task.EventNotStarted, Class: task.CouldNotStart, Text: r.script.Fail})
		return
	}
	f.begun[r.task.Ref()]++
	r.state = task.Running
	f.note(r, task.Event{Kind: task.EventLaunched, Handle: fmt.Appendf(nil, "fake %d.%d", r.task.Seq, r.task.Attempt())})
	f.note(r, task.Event{Kind: task.EventStarted})
	if r.script.Hang {
		return
	}
	f.after(r, time.Duration(r.script.RunMS)*time.Millisecond, func() {
		f.end(r, task.Event{Kind: task.EventExited, Unprompted: true, Outcome: f.outcome(r.script)})
	})
	if limit := r.task.Spec.Timeout; limit > 0 && limit < time.Duration(r.script.RunMS)*time.Millisecond {
		f.after(r, limit, func() {
			f.note(r, task.Event{Kind: task.EventStopping, Cause: task.CauseTimeout})
			f.end(r, task.Event{Kind: task.EventStopped, Outcome: f.killed()})
		})
	}
}

// after runs do later, under the lock, unless the attempt has something else
// before it by then. Without delay it runs now.
func (f *Fake) after(r *run, d time.Duration, do func()) {
	if r.timer != nil {
		r.timer.Stop()
	}
	if d <= 0 {
		do()
		return
	}
	r.timer = time.AfterFunc(d, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		do()
	})
}

func (f *Fake) outcome(s Script) task.Outcome {
	o := task.Outcome{ExitCode: s.Exit, Signal: s.Signal, Node: f.node()}
	for _, c := range task.FailureClasses() {
		if c.String() == s.Class {
			o.Class = c
		}
	}
	return o
}

func (f *Fake) killed() task.Outcome { return task.Outcome{ExitCode: -1, Signal: 15, Node: f.node()} }

func (f *Fake) node() string {
	if f.Host == "" {
		return "fakehost"
	}
	return f.Host
}

// Stop ends an attempt: at once, or after its grace if it is deaf.
func (f *Fake) Stop(ctx context.Context, t task.Task) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	r := f.runs[t.Ref()]
	switch {
	case r == nil:
		r = f.add(t)
		f.end(r, task.Event{Kind: task.EventStopped, Outcome: f.killed()})
	case r.state.Terminal():
		f.tell(r.history...)
	case r.stop:
	case r.state == task.Assigned || !r.script.Deaf:
		f.end(r, task.Event{Kind: task.EventStopped, Outcome: f.killed()})
	default:
		r.stop = true
		grace := t.Spec.Grace
		if grace == 0 {
			grace = task.DefaultGrace
		}
		f.after(r, grace, func() { f.end(r, task.Event{Kind: task.EventStopped, Outcome: f.killed()}) })
	}
	return nil
}

// note adds an event to the attempt's history and reports it.
func (f *Fake) note(r *run, ev task.Event) {
	ev.At, ev.Attempt = task.At(time.Now()), r.task.Attempt()
	c := task.Change{Seq: r.task.Seq, Event: ev}
	if ev.Kind == task.EventExited {
		c.Result = r.script.Result
	}
	r.history = append(r.history, c)
	f.tell(c)
}

// end notes the end. Only the first counts.
func (f *Fake) end(r *run, ev task.Event) {
	if r.state.Terminal() {
		return
	}
	r.state = task.Succeeded // or another end: here they are all the same
	if r.timer != nil {
		r.timer.Stop()
	}
	f.note(r, ev)
}

// tell queues reports, with the faults that are arranged.
func (f *Fake) tell(changes ...task.Change) {
	if d := f.faults.Delay; d > 0 {
		kept := slices.Clone(changes)
		time.AfterFunc(d, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.push(kept)
		})
		return
	}
	f.push(changes)
}

func (f *Fake) push(changes []task.Change) {
	if !f.watching {
		return // the next Watch tells all that is known
	}
	for _, c := range changes {
		if f.faults.Lose != nil && f.faults.Lose(c) {
			continue
		}
		for range f.faults.Repeat + 1 {
			f.pending = append(f.pending, c)
		}
	}
	f.poke()
}

func (f *Fake) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Watch reports to one engine. It may be called again after it has returned, by
// the next.
func (f *Fake) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	f.mu.Lock()
	if f.watching {
		f.mu.Unlock()
		return fmt.Errorf("backendtest: two engines watch one Fake")
	}
	f.watching = true
	f.recall(active)
	f.poke()
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watching = false
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
		if changes := f.take(); len(changes) > 0 {
			sink(changes)
		}
	}
}

// recall reports where every attempt stands, and that those are gone of which
// nothing is known. Of an attempt that began between two watches the caller may
// not know yet; a report too many does no harm.
func (f *Fake) recall(active []task.Task) {
	f.pending = nil
	for _, ref := range f.order {
		f.pending = append(f.pending, f.runs[ref].history...)
	}
	for _, t := range active {
		if f.runs[t.Ref()] == nil && t.State() >= task.Starting {
			f.pending = append(f.pending, task.Change{Seq: t.Seq, Event: task.Event{
				Kind: task.EventVanished, At: task.At(time.Now()), Attempt: t.Attempt(), Class: task.Vanished, Text: "the fake knows nothing of it",
			}})
		}
	}
}

// take returns what is to be reported now.
func (f *Fake) take() []task.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.pending
	f.pending = nil
	if f.faults.Shuffle {
		if f.rng == nil {
			f.rng = rand.New(rand.NewPCG(f.Seed, 0))
		}
		f.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	return out
}

// Forget drops attempts.
func (f *Fake) Forget(ctx context.Context, refs []task.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ref := range refs {
		if r := f.runs[ref]; r != nil && r.state.Terminal() {
			delete(f.runs, ref)
			f.order = slices.DeleteFunc(f.order, func(o task.Ref) bool { return o == ref })
		}
	}
	return ctx.Err()
}
