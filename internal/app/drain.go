package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// DrainOptions say what one run without a daemon does.
type DrainOptions struct {
	Config  config.Config
	Environ []string  // as in Options
	LogEcho io.Writer // as in Options
	// For is how long it follows what it has started; 0 = until nothing is left.
	For time.Duration
	// TakeOver is as in Options.
	TakeOver bool
	// Watches is as in UnattendedOptions; the last is that nothing is left.
	Watches func(o *Owner, left time.Duration)
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
	// Rejected are files of the drop folder that cannot be tasks.
	Rejected int
	Took     time.Duration
}

// Drain owns the queue for a while: it starts what is ready, follows it, and leaves.
// It is the orchestrator without its TCP doors. What still runs when it leaves runs
// on, and whoever owns the queue next finds it.
//
// When ctx ends it leaves at once. An error of Open, such as that somebody else owns
// the queue, is returned as it is. That the queue cannot be written when it leaves is an
// error, too: what it was to do is not done then, or is not on disk.
func Drain(ctx context.Context, o DrainOptions) (DrainReport, error) {
	d := &drain{classes: o.Classes, limit: o.For, began: time.Now(), quiet: make(chan struct{}, 1), ended: map[task.State]int{}}
	err := Run(ctx, Options{Config: o.Config, Environ: o.Environ, LogEcho: o.LogEcho, TakeOver: o.TakeOver, Watches: o.Watches, drain: d})
	r := d.report()
	if err == nil && d.trouble != nil {
		err = fmt.Errorf("not all that was to be done could be written down, and %d active and %d waiting tasks are left: %w", r.Running, r.Waiting, d.trouble)
	}
	return r, err
}

// drain is what an App does differently in a run without a daemon.
type drain struct {
	classes []string
	limit   time.Duration
	began   time.Time
	left    DrainReport   // set by serve
	trouble error         // why the queue could not be written then; nil = it could
	quiet   chan struct{} // of capacity 1: the engine has nothing to do

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
	if d.waitsFor(next) {
		return
	}
	select {
	case d.quiet <- struct{}{}:
	default: // it was told already
	}
}

// waitsFor says whether the run lasts until something is due.
func (d *drain) waitsFor(next task.Instant) bool {
	return next != 0 && (d.limit == 0 || next.Time().Before(d.began.Add(d.limit)))
}

// folderPause is how long a drain waits for the drop folder to be through, before it
// asks again. The first look at a folder takes about that long.
const folderPause = 50 * time.Millisecond

// await returns when the run is over.
func (d *drain) await(ctx context.Context, a *App) Reason {
	var over <-chan time.Time
	if d.limit > 0 {
		t := time.NewTimer(d.limit - time.Since(d.began))
		defer t.Stop()
		over = t.C
	}
	look := time.NewTimer(folderPause)
	defer look.Stop()
	for {
		select {
		case <-d.quiet:
			if a.folder.Busy() {
				look.Reset(folderPause)
				continue
			}
			// What the folder has brought meanwhile, the engine has to have seen.
			if quiet, next, err := a.engine.Quiet(ctx); err == nil && quiet && !d.waitsFor(next) {
				return Finished
			}
		case <-look.C:
			a.engine.Turn()
		case <-over:
			return TimeOver
		case <-ctx.Done():
			return AskedAway
		case <-a.parts.ended:
			return AskedAway
		}
	}
}

// committed is told of every commit of the queue.
func (a *App) committed(took time.Duration, added []task.Record) {
	a.metrics.Committed(took, added)
	if a.drain != nil {
		a.drain.note(added)
	}
}

// role is what this process is to the queue.
func (a *App) role() queue.Role {
	if a.drain != nil {
		return queue.RoleDrain
	}
	return queue.RoleDaemon
}

// whenQuiet is what the engine tells that nothing is left to do; nil = nobody asks.
func (a *App) whenQuiet() func(task.Instant) {
	if a.drain == nil {
		return nil
	}
	return a.drain.told
}

// leave notes what is left behind.
func (d *drain) leave(why Reason, a *App) {
	c := a.queue.Counts()
	d.left.Reason, d.left.Rejected = why, a.folder.Rejected()
	for _, s := range task.States {
		if s.Active() {
			d.left.Running += c.Total(s)
		}
	}
	d.left.Waiting = c.Total(task.Pending)
	if d.trouble = a.queue.Trouble(); d.trouble == nil && d.left.Running > 0 {
		d.trouble = a.queue.Room() // what starts tasks writes, too, and waits for it without a word
	}
}

func (d *drain) report() DrainReport {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.left
	r.Ended, r.Took = d.ended, time.Since(d.began)
	return r
}
