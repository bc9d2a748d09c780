package process

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// phase is how far the supervisor has come with an attempt. It only grows.
type phase uint8

const (
	// queued waits for a place in its pool. Nothing of it is in the journal.
	queued phase = iota
	// claimed is being forked, as soon as the journal has the claim: it may or may
	// not run.
	claimed
	// running has a process, or had one whose leftovers are being ended.
	running
	// ended waits for its end to be in the journal, and then for the queue to take
	// it over.
	ended
)

// attempt is what the supervisor knows about one attempt. The supervisor's
// mutex guards it.
type attempt struct {
	queue  *queue
	ref    task.Ref
	name   *supervisorpb.Name
	phase  phase
	start  *supervisorpb.Start // what to run; dropped once it runs
	env    []string            // of the start, shared with others
	nice   int                 // added to the nice level
	claim  *supervisorpb.Claim
	pool   *pool // nil once its place is given back
	proc   proc
	stop   stop
	ending ending
	end    *supervisorpb.End
	dirty  bool // it is in queue.dirty
	// oldBoot means that the journal speaks of it as of another boot: nothing of
	// it runs, and the numbers of its process mean nothing now.
	oldBoot bool
	note    string

	durable   bool     // its claim is in the journal
	forkAt    bootTime // since when a runner starts it; 0 = none does
	stuck     bool     // that takes long
	departing bool     // its main process is gone, and its log is being closed
	settled   bool     // its end is in the journal, or was waited for long enough
	late      bool     // its start came too late, and it is only reported
}

// proc is the process of an attempt.
type proc struct {
	pid       int
	from, to  uint64   // range of its start time, in ticks
	began     bootTime // from which the time limit counts
	at        task.Instant
	cgroup    *cgroup // nil = none
	log       int     // open as long as it runs, to see its size; -1 = not
	pidfd     int     // of a child; -1 = none
	gone      bool    // the main process has ended; exit has the facts
	exit      *supervisorpb.End
	child     bool   // we are its parent
	unmet     bool   // it was gone when this supervisor first looked; see ownsNumber
	recorded  string // the path of its cgroup, as the journal has it that was read
	oomBefore uint64 // kills for lack of memory on the machine before it began
}

// stop is the wish to end an attempt.
type stop struct {
	cause supervisorpb.StopCause
	at    task.Instant
	boot  bootTime // from which the grace counts
	// signalled says that a signal went out, so that what ends now did so
	// because of us.
	signalled bool
}

func (st *stop) begun() bool { return st.cause != supervisorpb.StopCause_STOP_CAUSE_UNSPECIFIED }

// ending is how far the ender has come with an attempt: one that is told to
// stop, or one whose main process left others behind.
type ending struct {
	active bool
	killAt bootTime       // when force begins
	nextAt bootTime       // when to look again
	pause  time.Duration  // between two looks
	asked  map[int]uint64 // who got SIGTERM: pid and start
	// groupKilled says that the process group got SIGKILL: what is still to be seen
	// of it is about to end.
	groupKilled bool
}

// grace is the time between SIGTERM and SIGKILL.
func (a *attempt) grace() time.Duration {
	if g := time.Duration(a.claim.GetGraceNs()); g > 0 {
		return g
	}
	return task.DefaultGrace
}

// timeLimit returns when the attempt has to be ended; 0 = never.
func (a *attempt) timeLimit() bootTime {
	d := time.Duration(a.claim.GetTimeoutNs())
	if d <= 0 || a.phase != running || a.proc.gone || a.stop.begun() {
		return 0
	}
	return a.proc.began.add(d)
}

// stoppingRecord is the journal's record of the wish to end the attempt.
func (a *attempt) stoppingRecord() *supervisorpb.Stopping {
	st := &a.stop
	return &supervisorpb.Stopping{Cause: st.cause, BootNs: int64(st.boot), At: int64(st.at)}
}

// newAttempt makes an attempt without a process.
func newAttempt(q *queue, n *supervisorpb.Name, c *supervisorpb.Claim) *attempt {
	return &attempt{queue: q, ref: refOf(n), name: n, claim: c, proc: proc{log: -1, pidfd: -1}}
}

// report is the attempt as its queue sees it.
func (a *attempt) report() *supervisorpb.Report {
	r := &supervisorpb.Report{
		Name: a.name, Note: a.note,
		StartedAt: int64(a.proc.at), Pid: int32(a.proc.pid), StartTicks: a.proc.from, StartTicksTo: a.proc.to, Cgroup: a.proc.cgroup.path(),
		Cause: a.stop.cause, StoppingAt: int64(a.stop.at),
	}
	switch {
	case a.late:
		r.Phase = supervisorpb.Report_PHASE_NOT_TAKEN
	case a.settled:
		r.Phase = supervisorpb.Report_PHASE_ENDED
		r.End = a.end
	case a.proc.pid != 0:
		r.Phase = supervisorpb.Report_PHASE_RUNNING
	default:
		r.Phase = supervisorpb.Report_PHASE_QUEUED
	}
	return r
}
