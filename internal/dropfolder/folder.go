package dropfolder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/taskid"
)

// Folder takes tasks from a drop folder and returns their outcomes.
type Folder struct {
	opts    Options
	tickets taskid.Maker
	newest  uint64 // the time in the newest ticket that was found in taken/
	trouble troubles

	layout  *layout // nil while the folder cannot be used
	pending scanner
	wishes  scanner // of requests/
	scanAt  time.Time
	// scannedAt is when the last scan was.
	scannedAt time.Time
	idle      time.Duration // between the last two scans, where nothing wakes us
	recovered time.Time     // when taken/ was read last
	rebuilt   bool          // see distrust
	// ready are the names in pending/ that the last scan found due, oldest first.
	ready []string
	// settling says that some of what the last scan saw waits for its second look.
	settling bool
	// wanted are requests that the last scan found.
	wanted []string
	// dirty says that files were moved, or requests removed, and that is not on disk yet.
	dirty bool
	// closedUntil is until when nothing is taken, because it could not be dealt with.
	closedUntil time.Time
	backoff     time.Duration
	refusing    bool // the queue did not take all of the last batch
	toldLeft    bool
	toldStray   bool

	taken  taken
	cursor uint64 // up to where the log was read

	busy atomic.Bool
	// through is up to where the log was read for good: of what ended before that,
	// either the outcome is in done/, or busy says that it is not.
	through  atomic.Uint64
	rejected atomic.Int64
	down     atomic.Pointer[string] // why the folder cannot be used; nil = it can
}

// New makes a Folder. It touches nothing.
func New(opts Options) (*Folder, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	f := &Folder{opts: opts, trouble: troubles{log: opts.Logger}, taken: newTaken()}
	f.busy.Store(true)
	return f, nil
}

// Busy says whether there is something to do that does not wait for a task, or for
// a file to be finished by its writer: the outcome of whatever has ended is in done/
// when there is not. It is true until the folder was looked at.
func (f *Folder) Busy() bool {
	// In this order: they are written in the other one.
	return f.through.Load() < f.opts.Log.LastIndex() || f.busy.Load()
}

// Rejected is how many files it has moved to rejected/.
func (f *Folder) Rejected() int { return int(f.rejected.Load()) }

// Down says why nothing is taken from the folder and no outcome is written; "" = it can
// be used, as far as was seen.
func (f *Folder) Down() string {
	if why := f.down.Load(); why != nil {
		return *why
	}
	return ""
}

// Run works until the context ends, and returns nil then. The error is that of the
// event log, without which no outcome would ever be returned; whatever is wrong with
// the folder itself is logged, and looked at again.
//
// What was begun is not taken back: the next Run goes on with it.
func (f *Folder) Run(ctx context.Context) error {
	// Every task that is submitted from here on ends behind this place of the log.
	f.cursor, f.taken = f.opts.Log.LastIndex(), newTaken()
	follower := follow(ctx, f.opts.Log)
	defer follower.wait()
	defer f.close()
	watch := noWatch()
	defer func() { watch.close() }()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-follower.failed:
			return fmt.Errorf("follow the event log: %w", err)
		case <-follower.ended:
			if f.readLog(); f.layout == nil || !f.taken.endDue(f.opts.Now()) {
				if f.layout != nil {
					f.through.Store(f.cursor)
				}
				continue // other tasks are most of what a busy queue tells of
			}
		case <-watch.changed:
			f.scanSoon()
		case <-timer.C:
		}
		before := f.layout
		wait := f.round(ctx)
		if f.layout != before {
			watch.close()
			watch = f.watch()
		}
		timer.Reset(wait)
	}
}

// close lets go of the directories. Files stay as they are.
func (f *Folder) close() {
	if f.layout != nil {
		f.layout.close()
		f.layout = nil
	}
}

// round does a bounded amount of what there is to do, and returns after what time
// there is more, if nothing happens before.
func (f *Folder) round(ctx context.Context) time.Duration {
	now := f.opts.Now()
	if f.trouble.note("lease", "it is not known whether the drop folder still is ours; it is left alone until it is", f.opts.Tasks.ConfirmLease()) {
		f.busy.Store(false)
		return pollBusy
	}
	if !f.open(now) {
		f.busy.Store(false) // it is not for us to wait until somebody mends it
		f.through.Store(math.MaxUint64)
		return pollIdle
	}
	f.readLog()
	f.deliver(now)
	f.scan(now)
	b := &batch{}
	f.settleTaken(now, b) // before what comes: they were taken earlier
	f.takeBatch(now, b)
	f.submit(ctx, now, b)
	f.carryOut(ctx, now)
	f.syncMoves()
	f.endDistrust(now)
	return f.pause(now)
}

// pause says how long nothing can be done.
func (f *Folder) pause(now time.Time) time.Duration {
	settle := f.opts.settle()
	more := len(f.wanted) > 0 || f.taken.endDue(now) ||
		!f.closed(now) && (len(f.ready) > 0 || f.taken.settleDue(now, &f.opts))
	settles := f.taken.settles(now, settle)
	f.busy.Store(more || settles || f.settling)
	f.through.Store(f.cursor)
	wait := max(f.scanAt.Sub(now), time.Millisecond)
	if len(f.ready) > 0 { // they come first, and nothing is taken for now
		wait = f.closedUntil.Sub(now)
	}
	switch {
	case more:
		return 0
	case settles:
		return min(wait, settle)
	case f.taken.failed():
		return min(wait, retryFirst)
	default:
		return wait
	}
}

// open makes sure that the folder is open and as it should be, and reads taken/
// when it is another one than before.
func (f *Folder) open(now time.Time) bool {
	err := errMoved
	if f.layout != nil {
		err = f.layout.check(f.opts.Dir)
	}
	if errors.Is(err, errMoved) {
		err = f.reopen(now)
	}
	if err != nil {
		f.close()
	}
	f.noteDown(err)
	return !f.trouble.note("open", "the drop folder cannot be used; nothing is taken from it until it can", err)
}

func (f *Folder) noteDown(err error) {
	if err == nil {
		f.down.Store(nil)
		return
	}
	why := err.Error()
	f.down.Store(&why)
}

func (f *Folder) reopen(now time.Time) (err error) {
	f.close()
	f.ready, f.wanted, f.settling = nil, nil, false
	f.pending, f.wishes, f.scanAt = scanner{}, scanner{}, time.Time{}
	if f.layout, err = openLayout(f.opts.Dir); err != nil {
		f.layout = nil
		return err
	}
	if err := f.recover(now); err != nil {
		return err
	}
	return f.distrust()
}

// scan looks at pending/ and requests/, when it is time and what was found before
// has been dealt with.
func (f *Folder) scan(now time.Time) {
	if len(f.ready) > 0 || len(f.wanted) > 0 || now.Before(f.scanAt) {
		return
	}
	f.setClock(now)
	f.scannedAt, f.idle = now, min(f.idle+pollBusy, pollIdle)
	f.scanAt = now.Add(f.idle)
	files, err := f.pending.scan(f.layout.pending, now, &f.opts)
	if f.trouble.note("scan", "the drop folder cannot be read", err) {
		return
	}
	wishes, err := f.wishes.scan(f.layout.requests, now, &f.opts)
	if f.trouble.note("scan_requests", "the requests of other hosts cannot be read", err) {
		return
	}
	f.trouble.note("look", "files of the drop folder cannot be looked at; they are tried again", cmp.Or(files.unseen, wishes.unseen))
	if now.Sub(f.recovered) >= f.opts.recheck() && f.trouble.note("scan_taken", "what lies in taken/ cannot be read", f.recover(now)) {
		return
	}
	if files.left != "" && !f.toldLeft {
		f.toldLeft = true
		f.opts.Logger.Info("files of the drop folder whose names are hidden or do not end in .json, and folders, are left alone", "example", files.left)
	}
	f.ready, f.wanted, f.settling = files.due, wishes.due, files.settles || wishes.settles
	if f.rebuilt {
		f.ready, f.wanted = nil, nil // those in taken/ come first
	}
	switch {
	case f.settling:
		f.idle, f.scanAt = 0, now.Add(f.opts.settle())
	case len(f.ready) > 0 || len(f.wanted) > 0:
		f.idle, f.scanAt = 0, now.Add(pollBusy)
	}
}

// scanSoon looks at the folder because something came, but not for each of many
// files that come at once.
func (f *Folder) scanSoon() {
	if soon := f.scannedAt.Add(f.opts.settle()); soon.Before(f.scanAt) {
		f.scanAt = soon
	}
}

// closed says whether nothing is taken for now.
func (f *Folder) closed(now time.Time) bool { return now.Before(f.closedUntil) }

// hold takes nothing for a while: what is there already cannot be dealt with.
func (f *Folder) hold(now time.Time) {
	f.backoff = min(max(2*f.backoff, retryFirst), retryLast)
	f.closedUntil = now.Add(f.backoff)
}

// syncMoves puts on disk what was moved between directories, and which requests are done.
func (f *Folder) syncMoves() {
	if !f.dirty {
		return
	}
	err := f.opts.syncDirs(f.layout.rejected, f.layout.taken, f.layout.pending, f.layout.requests)
	f.dirty = f.trouble.note("sync", "what was moved in the drop folder is not safe on disk yet", err)
}
