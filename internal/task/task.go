package task

import "time"

// Task is a task as the queue knows it: what was asked, and how far it has
// come. It is a value; Apply returns a changed copy.
type Task struct {
	Seq    Seq
	Spec   *Spec // shared and never changed
	status Status
}

// Status is everything about a task that changes. Only Apply makes a new one;
// others read it by Task.Status.
type Status struct {
	State   State
	Attempt int // from 1

	Blocked   int     // dependencies that have not ended yet
	NotBefore Instant // do not place earlier: backoff of a retry
	Held      string  // why it is held back by a person or a restore; "" = it is not
	Cancel    *Cancel // somebody asked to cancel it; nil = nobody

	Backend string // who has this attempt; "" before Assigned
	Lease   Lease  // what this attempt holds
	Handle  []byte // how the backend finds the workload again; opaque to others
	Detail  string // the backend's own word about this state ("Slurm: Priority")
	Cause   Cause  // why it is Stopping

	AssignedAt, StartingAt, StartedAt, StoppingAt, EndedAt Instant

	Outcome Outcome    // of this attempt, once it ended
	Past    []Attempt  // earlier attempts, oldest first, at most MaxPast of them
	Used    [16]uint16 // retries used, by FailureClass
}

// MaxPast bounds the history inside a task's record. The oldest attempts go
// first; the event log has them all for as long as it is kept.
const MaxPast = 20

// Lease is what an attempt holds from Assigned until its workload is known to
// be gone.
type Lease struct {
	CPUMilli int64
	MemBytes int64
	GPUs     []string // UUIDs
	GPUMem   int64    // bytes on each, for a share; 0 = whole
	// CUDA is what a program of this machine is told of them: the value of
	// CUDA_VISIBLE_DEVICES. It is kept, since it must be the same after a crash.
	CUDA  string `json:",omitempty"`
	Ahead bool   // placed ahead of a free slot: it waits in the backend for one
}

// Cancel is the wish that a task should end. It is stored; whoever owns the
// task's present state acts on it.
type Cancel struct {
	At     Instant
	By     string // "uid 1000"
	Reason string
}

// Cause is why we end a running attempt.
type Cause uint8

// The causes.
const (
	NoCause Cause = iota
	CauseCancel
	CauseTimeout
	CauseGPULost // a GPU that it holds is gone
)

// String returns "cancel", "timeout", "gpu_lost" or "".
func (c Cause) String() string {
	switch c {
	case CauseCancel:
		return "cancel"
	case CauseTimeout:
		return "timeout"
	case CauseGPULost:
		return "gpu_lost"
	default:
		return ""
	}
}

// Outcome is how an attempt ended.
type Outcome struct {
	ExitCode int // of the program; -1 when there is none
	Signal   int // that ended the program; 0 = none
	Class    FailureClass
	Message  string // one sentence for people
	Node     string // host it ran on
	MaxRSS   int64  // bytes; 0 = unknown
	CPUTime  time.Duration
	GPU      GPUUse `json:",omitzero"`
}

// Attempt is the record of an attempt that another one followed.
type Attempt struct {
	Number     int
	State      State
	Backend    string
	AssignedAt Instant
	StartedAt  Instant
	EndedAt    Instant
	Outcome    Outcome
}

// New makes the task of a spec that was just accepted: Pending, attempt 1, with
// that many dependencies to wait for.
func New(seq Seq, spec *Spec, blocked int) Task {
	return Task{Seq: seq, Spec: spec, status: Status{State: Pending, Attempt: 1, Blocked: blocked}}
}

// Restore makes a task from what was stored about it. Only the queue calls it,
// with a Status that an earlier Apply or New made.
func Restore(seq Seq, spec *Spec, status Status) Task {
	return Task{Seq: seq, Spec: spec, status: status}
}

// State returns the state of the current attempt.
func (t Task) State() State { return t.status.State }

// Attempt returns the number of the current attempt, from 1.
func (t Task) Attempt() int { return t.status.Attempt }

// Status returns a copy of all that changes. Its slices are shared and must not
// be written to.
func (t Task) Status() Status { return t.status }

// Ref names the current attempt.
func (t Task) Ref() Ref { return Ref{Seq: t.Seq, Attempt: t.status.Attempt} }

// Ready says whether the task could be placed now, if there is room: Pending,
// nothing to wait for, not held, not about to be cancelled.
func (t Task) Ready(now Instant) bool {
	s := &t.status
	return s.State == Pending && s.Blocked == 0 && s.Held == "" && s.Cancel == nil && s.NotBefore <= now
}

// Ran returns how long the current attempt ran, up to now if it still does; 0
// if it never started.
func (t Task) Ran(now Instant) time.Duration {
	s := &t.status
	if s.StartedAt == 0 {
		return 0
	}
	if s.EndedAt != 0 {
		return s.EndedAt.Sub(s.StartedAt)
	}
	return now.Sub(s.StartedAt)
}

// Ref names one attempt of one task of a queue. With the queue's random id it
// names every external thing that is done for it: supervised process,
// container, Slurm job, claim.
type Ref struct {
	Seq     Seq
	Attempt int
}

// Assign makes a task that stands just before an attempt begins, for whoever runs that
// and has no queue.
func Assign(r Ref, spec *Spec) (Task, error) {
	if r.Seq == 0 || r.Attempt < 1 || spec == nil {
		return Task{}, Errorf(CodeInvalid, "there is no attempt %d of task %d", r.Attempt, r.Seq)
	}
	return Task{Seq: r.Seq, Spec: spec, status: Status{State: Assigned, Attempt: r.Attempt}}, nil
}
