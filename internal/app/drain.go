package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// DrainOptions say what one run without a daemon does.
type DrainOptions struct {
	Config  config.Config
	Environ []string  // as in Options
	LogEcho io.Writer // as in Options
	// For is how long it follows what it has started; 0 = until nothing is left.
	For time.Duration
	// Classes are those whose tasks it places; empty = all. Whatever runs already is
	// followed, of whichever class.
	Classes []string
}

// Reason is why a run without a daemon ended.
type Reason string

// The reasons.
const (
	Finished  Reason = "finished"   // nothing was left to follow or to start
	TimeOver  Reason = "time over"  // its time was over
	AskedAway Reason = "asked away" // ctx ended: a daemon takes over, or somebody wants it gone
)

// DrainReport is what came of a run without a daemon.
type DrainReport struct {
	Reason  Reason
	Ended   map[task.State]int // the tasks that ended meanwhile
	Running int                // left behind, for the next one to find
	Waiting int
	Took    time.Duration
}

// Drain owns the queue for a while: it starts what is ready, follows it, and leaves.
// It is the orchestrator without its TCP doors. What still runs when it leaves runs
// on, and whoever owns the queue next finds it.
//
// When ctx ends it leaves at once. An error of Open, such as that somebody else owns
// the queue, is returned as it is.
func Drain(ctx context.Context, o DrainOptions) (DrainReport, error) {
	d := &drain{classes: o.Classes, limit: o.For, began: time.Now(), done: make(chan struct{}), ended: map[task.State]int{}}
	err := Run(ctx, Options{Config: o.Config, Environ: o.Environ, LogEcho: o.LogEcho, drain: d})
	return d.report(), err
}

// drain is what an App does differently in a run without a daemon.
type drain struct {
	classes []string
	limit   time.Duration
	began   time.Time
	left    DrainReport // set by serve
	quiet   sync.Once
	done    chan struct{} // closed when nothing is left

	mu    sync.Mutex
	ended map[task.State]int
}

// shut says why nothing of a class is placed; "" = it is.
func (d *drain) shut(class string) string {
	if d == nil || len(d.classes) == 0 || slices.Contains(d.classes, class) {
		return ""
	}
	return fmt.Sprintf("class %s is not among those that the present drain starts; a drain without --class, or a daemon, does", class)
}

// note counts what has ended.
func (d *drain) note(records []task.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		if r.Ended() {
			d.ended[r.To]++
		}
	}
}

// told is told by the engine that only time brings something. What comes due while
// there is time is waited for.
func (d *drain) told(next task.Instant) {
	if next != 0 && (d.limit == 0 || next.Time().Before(d.began.Add(d.limit))) {
		return
	}
	d.quiet.Do(func() { close(d.done) })
}

// await returns when the run is over.
func (d *drain) await(ctx context.Context, failed <-chan struct{}) Reason {
	var over <-chan time.Time
	if d.limit > 0 {
		t := time.NewTimer(d.limit - time.Since(d.began))
		defer t.Stop()
		over = t.C
	}
	select {
	case <-d.done:
		return Finished
	case <-over:
		return TimeOver
	case <-ctx.Done():
	case <-failed:
	}
	return AskedAway
}

// committed is told of every commit of the queue.
func (a *App) committed(took time.Duration, added []task.Record) {
	a.metrics.Committed(took, added)
	if a.drain != nil {
		a.drain.note(added)
	}
}

// role is what this process is to the queue.
func (a *App) role() string {
	if a.drain != nil {
		return api.RoleDrain
	}
	return api.RoleDaemon
}

// quiet is what the engine tells that nothing is left to do; nil where nobody asks.
func (a *App) quiet() func(task.Instant) {
	if a.drain == nil {
		return nil
	}
	return a.drain.told
}

// leave notes what is left behind.
func (d *drain) leave(why Reason, c task.Counts) {
	d.left.Reason = why
	for _, s := range task.States {
		if s.Active() {
			d.left.Running += c.Total(s)
		}
	}
	d.left.Waiting = c.Total(task.Pending)
}

func (d *drain) report() DrainReport {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.left
	r.Ended, r.Took = d.ended, time.Since(d.began)
	return r
}
