package gpuprobe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// Watcher keeps the view.
type Watcher struct {
	o      Options
	ask    chan struct{} // one place: a snapshot now, please
	undead *child        // Run's: killed, and not gone

	mu      sync.Mutex
	view    View
	why     string // what went wrong since the view was taken
	logged  string // and was logged last
	events  []gpu.Event
	changed chan struct{} // closed with the next view or event
}

// View is the GPUs as they were seen last.
type View struct {
	Snapshot *gpu.Snapshot // nil: never yet
	Received time.Time     // with the monotonic clock
}

// Age is how long ago that was.
func (v View) Age() time.Duration { return time.Since(v.Received) }

// mostEvents bounds what nobody fetches; the oldest go first.
const mostEvents = 1000

// New returns a Watcher that does nothing until Run.
func New(o Options) *Watcher {
	return &Watcher{o: o.withDefaults(), ask: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Latest returns the last view.
func (w *Watcher) Latest() View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

// Changed returns a channel that is closed when there is a newer view, or an
// event.
func (w *Watcher) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Events returns what the driver told since the last call.
func (w *Watcher) Events() []gpu.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// Down says why nothing may be placed on a GPU now, or "".
func (w *Watcher) Down() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, s := w.view, w.view.Snapshot
	because := ""
	if w.why != "" {
		because = ": " + w.why
	}
	switch {
	case s == nil:
		return "the GPUs have not been seen yet" + because
	case s.Driver.Code != gpu.Success:
		return fmt.Sprintf("NVIDIA's driver does not work here: %s (%s)", s.Driver.Problem, s.Driver.Code)
	case v.Age() > w.o.Stale:
		return fmt.Sprintf("the last look at the GPUs is %s old%s", v.Age().Round(time.Second), because)
	}
	return ""
}

// Refresh returns a view that was begun after the call.
func (w *Watcher) Refresh(ctx context.Context) (View, error) {
	begun := time.Now()
	for {
		changed := w.Changed()
		if v := w.Latest(); v.Snapshot != nil && !v.Snapshot.At.Before(begun.UTC().Round(0)) {
			return v, nil
		}
		select {
		case w.ask <- struct{}{}:
		default: // it is asked for already
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return View{}, fmt.Errorf("look at the GPUs: %w", ctx.Err())
		}
	}
}

// Run keeps the view up to date until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	pause, failures := w.o.Pause, 0
	for ctx.Err() == nil {
		good, err := w.attempt(ctx)
		if ctx.Err() != nil {
			break
		}
		failures++
		if good {
			pause, failures = w.o.Pause, 1
		}
		w.failed(err, pause)
		w.rest(ctx, pause, w.fallBack(err, failures))
		pause = min(2*pause, w.o.MaxPause)
	}
	if w.undead != nil && !w.undead.reap(0) {
		w.o.Log.Warn("gpu-probe hangs in the driver and is left behind", "pid", w.undead.pid)
	}
	return nil
}

var (
	errNoProbe = errors.New("there is no gpu-probe")
	errUndead  = errors.New("the driver holds a gpu-probe that was killed: the machine needs a restart")
)

// attempt runs a probe, unless there is none, or an earlier one is still there.
func (w *Watcher) attempt(ctx context.Context) (good bool, err error) {
	switch {
	case w.undead != nil && !w.undead.reap(0):
		return false, fmt.Errorf("%w (pid %d)", errUndead, w.undead.pid)
	case len(w.o.Probe) == 0:
		return false, errNoProbe
	}
	w.undead = nil
	return w.run(ctx)
}

// failed notes why there is no probe now.
func (w *Watcher) failed(err error, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, errDriver) {
		w.why = ""
		return
	}
	w.complain(err, pause)
}

// complain notes an error, and logs it unless it is the same again. It is called
// with the lock.
func (w *Watcher) complain(err error, pause time.Duration) {
	text := err.Error()
	if text != w.logged {
		w.o.Log.Warn("no look at the GPUs", "error", err, "again_in", pause)
	}
	w.why, w.logged = text, text
}

// fewFailures is how often a probe may fail in a row before nvidia-smi is asked
// beside it.
const fewFailures = 3

// fallBack says whether nvidia-smi may know more. Beside a process that the
// driver holds it would only hang as well.
func (w *Watcher) fallBack(err error, failures int) bool {
	switch {
	case len(w.o.SMI) == 0 || errors.Is(err, errUndead):
		return false
	case errors.Is(err, errDriver):
		v := w.Latest()
		return v.Snapshot != nil && (v.Snapshot.Source == gpu.SourceSMI || v.Snapshot.Driver.Code == gpu.LibraryNotFound)
	default:
		return errors.Is(err, errNoProbe) || failures >= fewFailures
	}
}

// rest waits before the next attempt; meanwhile nvidia-smi is asked, if that is
// of use.
func (w *Watcher) rest(ctx context.Context, pause time.Duration, smi bool) {
	over := time.NewTimer(pause)
	defer over.Stop()
	look := time.NewTicker(w.o.Period)
	defer look.Stop()
	for {
		if smi {
			w.smi(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-w.askIf(smi):
		case <-look.C:
		}
	}
}

// askIf is the channel of requests, for who can answer.
func (w *Watcher) askIf(can bool) <-chan struct{} {
	if can {
		return w.ask
	}
	return nil
}

// publish makes a snapshot the view.
func (w *Watcher) publish(s *gpu.Snapshot) {
	introduce(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view, w.why = View{Snapshot: s, Received: time.Now()}, ""
	w.wake()
}

// publishUnlessKnown publishes that there is no driver, if nvidia-smi does not
// know better.
func (w *Watcher) publishUnlessKnown(s *gpu.Snapshot) {
	if v := w.Latest(); v.Snapshot != nil && v.Snapshot.Source == gpu.SourceSMI && v.Age() <= w.o.Stale {
		return
	}
	w.publish(s)
}

// hangs notes a call that does not come back.
func (w *Watcher) hangs(b *gpu.Busy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why = call(b) + " does not come back from the driver"
}

func (w *Watcher) tell(e gpu.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.events = append(w.events, e); len(w.events) > mostEvents {
		w.events = slices.Delete(w.events, 0, len(w.events)-mostEvents)
	}
	w.wake()
}

// wake is called with the lock.
func (w *Watcher) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Ask has a snapshot taken soon, and does not wait for it.
func (w *Watcher) Ask() {
	select {
	case w.ask <- struct{}{}:
	default: // it is asked for already
	}
}
