package process

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// follow uses one connection until it breaks or ctx ends.
func (b *Backend) follow(ctx context.Context, ss *session, deliver func([]task.Change)) {
	unhook := context.AfterFunc(ctx, ss.leave)
	defer unhook()
	defer b.disconnected(ss)
	if ss.where.Machine == "" && ss.where.Boot == b.id.Boot {
		ss.where.Machine = b.id.Machine // an older one does not say, and it is at the other end of a Unix socket
	}
	err := b.handOver(ss)
	if err == nil {
		awake := func() { deliver(nil) } // says nothing, but has the engine see that Down is over
		awake()
		deaf := b.listen(ss, awake)
		defer deaf()
		err = b.receive(ss, deliver)
	}
	_ = ss.nc.Close() // nothing is lost: the supervisor keeps what it has to tell
	if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		b.opts.Logger.Warn("process supervisor", "error", err)
	}
}

// disconnected notes that the connection has ended. A supervisor that took
// nothing in any more has most likely not ended with it.
func (b *Backend) disconnected(ss *session) {
	if since := ss.stuck.Load(); since != 0 {
		b.setSilent(ss.pid, time.Unix(0, since))
		return
	}
	b.setSession(nil, "")
}

// receive reports what the supervisor says, until the connection breaks: first
// all that it knows, with what it should know and does not, and then what
// changes.
func (b *Backend) receive(ss *session, deliver func([]task.Change)) error {
	told := snapshot{} // nil when it is complete
	for {
		m, err := ss.receive()
		if err != nil {
			return err
		}
		if m.GetPong() != nil {
			ss.asked.Store(false)
		}
		reports := m.GetReports()
		if reports == nil {
			continue // what a newer supervisor says beside them we do not need
		}
		b.takeAndTell(ss, reports, told, deliver)
		if reports.GetSnapshotDone() {
			told = nil
		}
	}
}

// takeAndTell takes in one message of reports. told is nil after the snapshot.
func (b *Backend) takeAndTell(ss *session, reports *supervisorpb.Reports, told snapshot, deliver func([]task.Change)) {
	b.unread.turn.Lock()
	defer b.unread.turn.Unlock()
	told.note(reports.GetReports())
	heard, dropped, here := b.sift(reports.GetReports())
	b.keep(here)
	changes := b.take(&ss.origin, heard)
	if reports.GetSnapshotDone() && told != nil {
		changes = append(changes, b.missing(ss, told)...)
	}
	if len(changes) > 0 {
		deliver(changes)
	}
	if len(dropped) > 0 {
		_ = ss.send(forgetMessage(dropped)) // else the next connection tells of them again
	}
}

// sift returns the reports that say something about attempts. Of the others, it has
// starts that came too late handed over again, and returns the attempts that an owner
// on another host had back and that nobody wants here any more. here are those that were
// handed over to us while it was not known where they are, and that this supervisor has.
func (b *Backend) sift(reports []*supervisorpb.Report) (heard []*supervisorpb.Report, dropped []task.Ref, here []task.Task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range reports {
		ref := refOf(r.GetName())
		switch {
		case r.GetPhase() == supervisorpb.Report_PHASE_NOT_TAKEN:
			b.late[ref] = struct{}{}
			b.lateness.wake()
			continue
		case r.GetEnd().GetRecalledBy() == 0:
			if in := b.inherited[ref]; in != nil && in.launch != nil {
				here = append(here, *in.launch)
			}
			delete(b.inherited, ref)
			heard = append(heard, r)
			continue
		}
		if !b.heirs[ref] {
			dropped = append(dropped, ref)
		}
	}
	return heard, dropped, here
}

// keep keeps the starts of attempts that the supervisor has already, from an owner before
// us. While one only waits there nothing of it is written down: should that supervisor be
// killed, the next one is handed it by us.
func (b *Backend) keep(tasks []task.Task) {
	for _, t := range tasks {
		st, env, err := b.startOf(t)
		if err != nil {
			b.opts.Logger.Warn("a task that waits at the process supervisor could not be handed over once more", "task", t.Seq, "error", err)
			continue
		}
		b.give(t, st, env)
	}
}

// take turns reports into changes.
func (b *Backend) take(o *origin, reports []*supervisorpb.Report) []task.Change {
	changes := make([]task.Change, 0, 3*len(reports))
	for _, r := range reports {
		ref := refOf(r.GetName())
		if held := b.unread.report(ref); held != nil {
			r = held // a supervisor that has lost its journal knows less than that
		}
		b.mu.Lock()
		before := b.told[ref]
		b.mu.Unlock()
		var after told
		// Without the mutex: it reads a result.
		changes, after = b.changes(changes, o, r, before)
		b.heard(o, r, after)
	}
	return changes
}

// heard notes how much of an attempt is known after a report.
func (b *Backend) heard(o *origin, r *supervisorpb.Report, after told) {
	ref := refOf(r.GetName())
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.GetPhase() != supervisorpb.Report_PHASE_QUEUED {
		b.knowReport(o, r)
		delete(b.given, ref)
		delete(b.envs, ref)
		b.told[ref] = after
	}
	if after == toldEnd {
		b.forgetRef(ref)
	}
}
