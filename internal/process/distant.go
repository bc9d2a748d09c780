package process

import (
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An attempt on another host is followed by what its supervisor there writes into the
// spool, ended by asking that supervisor, and never begun again here.

// silentAfter is for how long a supervisor on another host may say nothing before people
// are told; it shows every cardEvery that it is alive.
const silentAfter = time.Minute

// distantPatience is how long a task that somebody cancels waits for a supervisor on
// another host that is silent. A variable for tests.
var distantPatience = 5 * time.Minute

// distantAttempt is an attempt that runs where no supervisor of ours is.
type distantAttempt struct {
	task   task.Task
	handle handle
	stop   bool      // it has to end
	asked  time.Time // since when its supervisor is asked for that
	said   string    // the last word about it
}

func newDistant(t task.Task, h handle) *distantAttempt { return &distantAttempt{task: t, handle: h} }

// toldOf is how much of an attempt was told of which the queue has that state.
func toldOf(s task.State) told {
	switch s {
	case task.Running:
		return toldRunning
	case task.Stopping:
		return toldStopping
	default:
		return toldNothing
	}
}

// far says whether no supervisor of this host can know of an attempt with that handle.
// A machine that was restarted under another name and a twin of it, made from the same
// image, look alike. What runs on a twin is not lost, and it may see the folder though it
// is on a disk of ours, which we serve to it.
func (b *Backend) far(h handle) bool {
	switch h.where(b.id) {
	case elsewhere, otherPIDs:
		return true
	case beforeBoot:
		return h.Host != b.id.Name
	default:
		return false
	}
}

// stopElsewhere takes in the wish to end an attempt that is not here; false if it is,
// as far as is known.
func (b *Backend) stopElsewhere(t task.Task) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.noteStopElsewhere(t) {
		h, ok := decodeHandle(t.Status().Handle)
		return ok && b.learned && b.far(h) // its end is told already
	}
	b.outlook.wake()
	return true
}

// noteStopElsewhere is stopElsewhere for those who hold the mutex.
func (b *Backend) noteStopElsewhere(t task.Task) bool {
	if d := b.distant[t.Ref()]; d != nil {
		d.task, d.stop = t, true
		return true
	}
	if in := b.inherited[t.Ref()]; in != nil {
		in.task, in.stop = t, true
		return true
	}
	return false
}

// remoteOf returns where the ends of attempts are that ran elsewhere, and forgets it. The
// mutex is held.
func (b *Backend) remoteOf(refs []task.Ref) map[task.Ref]string {
	var out map[task.Ref]string
	for _, ref := range refs {
		if dir, ok := b.remote[ref]; ok {
			if out == nil {
				out = map[task.Ref]string{}
			}
			out[ref] = dir
			delete(b.remote, ref)
		}
	}
	return out
}

// forgetElsewhere has supervisors on other hosts drop ends. One that cannot be asked
// reports them to the next owner on its host, who knows them.
func (b *Backend) forgetElsewhere(remote map[task.Ref]string) {
	for ref, dir := range remote {
		if err := (request{what: askForget, ref: ref}).put(dir); err != nil {
			b.opts.Logger.Info("the supervisor on another host keeps the end of a task", "task", ref.Seq, "error", err)
		}
	}
}

// wantsStop reads a wish under the mutex.
func (b *Backend) wantsStop(stop *bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *stop
}

// follow returns what is new of a distant attempt.
func (l *lookout) follow(ref task.Ref, d *distantAttempt) (changes []task.Change) {
	b := l.b
	f, found := l.find(ref, d.handle)
	if found != nil {
		changes = b.take(&origin{where: d.handle.identity(), id: d.handle.Supervisor}, []*supervisorpb.Report{found.report(ref)})
	}
	if f != nil && b.wantsStop(&d.stop) {
		l.ask(f, request{what: askStop, ref: ref})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told[ref] == toldEnd {
		delete(b.distant, ref)
		if f != nil {
			b.remote[ref] = f.dir
		}
		return changes
	}
	if text := d.givenUp(b.id.Name, f, l.now); text != "" {
		delete(b.distant, ref)
		b.forgetRef(ref)
		return append(changes, b.lost(ref, text))
	}
	if text := d.text(b.id.Name, f, l.now); text != d.said {
		d.said = text
		changes = append(changes, b.noted(ref, text))
	}
	return changes
}

// givenUp says why a distant attempt is given up; "" = it is not. It is if somebody
// cancels it, and who could end it is silent, or was never heard of: it would be in the
// way for ever. It is not said to have stopped, and never run again by itself: it may
// still run.
func (d *distantAttempt) givenUp(here string, f *foreignSpool, now time.Time) string {
	switch {
	case !d.stop || d.task.Status().Cancel == nil:
		return ""
	case f == nil:
		return d.handle.far(here) + ": it could not be stopped from here and may still run"
	case d.asked.IsZero():
		d.asked = now
		return ""
	case f.silent(d.asked, now):
		return fmt.Sprintf("%s: its supervisor there, which was asked to end it, has not been heard since %s; it may still run", d.handle.far(here), f.heardAt())
	default:
		return ""
	}
}

// silent says whether a supervisor has said nothing for so long that nobody waits for
// what it was asked for.
func (f *foreignSpool) silent(asked, now time.Time) bool {
	return now.Sub(asked) >= distantPatience && now.Sub(f.heard) >= distantPatience
}

// heardAt says when something was last heard of the supervisor.
func (f *foreignSpool) heardAt() string {
	at := f.heard.Format(time.DateTime)
	if !f.alive {
		return "before " + at // it was silent since we began to look
	}
	return at
}

// text says where a distant attempt stands.
func (d *distantAttempt) text(here string, f *foreignSpool, now time.Time) string {
	text := d.handle.far(here)
	if f == nil {
		if d.stop {
			return text + ": it cannot be stopped from here"
		}
		return text + ": it is left alone, and followed again by a daemon that is started there"
	}
	text += ": it is followed by what its supervisor there writes into the spool"
	if d.stop {
		text += ", which is asked to end it"
	}
	switch {
	case f.card.Left:
		return text + "; that has ended, and a daemon that is started there follows it again"
	case now.Sub(f.heard) >= silentAfter:
		return text + "; that has not been heard since " + f.heardAt()
	default:
		return text
	}
}
