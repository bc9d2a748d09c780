package slurm

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// job is one attempt, and how far it has come. The backend's mutex guards it.
type job struct {
	b    *Backend
	ref  task.Ref
	name string
	dir  folder

	task  task.Task
	whole bool // the task has its environment and payload: it was handed over

	// What was asked for.
	stop  bool
	cause task.Cause

	// What is known. ids are the jobs that were submitted for it, oldest first.
	intent     time.Time // when sbatch was about to be called last; zero = never
	submitting bool      // sbatch is being called
	notBefore  time.Time // when to try sbatch again
	ids        []string
	known      time.Time // when the newest of ids became known to us
	record     record
	heard      time.Time // when the end in the record was seen here
	signal     signal
	void       bool // we hold the claim: no job can work any more

	// What squeue said.
	rows    map[string]Job
	listed  time.Time            // when it was asked
	missing map[string]time.Time // since when it does not know a job that it should
	over    time.Time            // since when none of the jobs works or may begin to

	// What sacct said, of jobs that squeue has forgotten.
	past     map[string]Job
	asked    int       // how often it was asked
	askAfter time.Time // when it may be asked again
	due      bool      // it is to be asked

	told      told
	note      string
	cancelled time.Time // when scancel was called last
	ended     bool
	history   []task.Change
}

// told is how much of an attempt was reported.
type told uint8

const (
	toldNothing told = iota
	toldLaunched
	toldStarted
	toldStopping
)

func (b *Backend) newJob(t task.Task) *job {
	ref := t.Ref()
	return &job{b: b, ref: ref, name: nameOf(b.opts.QueueID, ref), dir: folder{b.layout, ref}, task: t, missing: map[string]time.Time{}}
}

// recall reads from the folder what was known before a restart.
func (j *job) recall() (err error) {
	if j.intent, err = j.dir.intent(); err != nil {
		return err
	}
	if j.ids, err = j.dir.jobs(); err != nil {
		return err
	}
	j.signal = j.dir.signal()
	j.void = j.dir.voided()
	now := j.b.opts.Now()
	if j.record, _, err = j.dir.record(); j.record.Exited {
		j.heard = now
	}
	if j.intent.After(now) {
		j.intent = now // a clock that was set back
	}
	return err
}

// claimant is the job whose script works, or worked; "" = none has begun.
func (j *job) claimant() string { return j.record.Job }

// learn takes in the number of a job.
func (j *job) learn(id string) {
	if slices.Contains(j.ids, id) {
		return
	}
	j.ids = append(j.ids, id)
	j.known = j.b.opts.Now()
	if err := j.dir.keepJobs(j.ids); err != nil {
		j.b.opts.Logger.Warn("cannot note the number of a job; it is found by its name", "task", j.ref.Seq, "job", id, "error", err)
	}
}

// handle is what task.Status.Handle holds. The name says all; the rest is for people,
// and for those who come with later releases. Versions only add fields.
type handle struct {
	Version int    `json:"v"`
	Job     string `json:"job"`
	Name    string `json:"name"`
	Cluster string `json:"cluster,omitempty"`
}

// JobNumber is the number of the job in a handle; "" = there is none.
func JobNumber(opaque []byte) string {
	var h handle
	if json.Unmarshal(opaque, &h) != nil {
		return ""
	}
	return h.Job
}

// tell reports about an attempt.
func (j *job) tell(c task.Change) {
	c.Seq, c.Event.Attempt = j.ref.Seq, j.ref.Attempt
	j.history = append(j.history, c)
	j.b.out = append(j.b.out, c)
}

// tellLaunched reports that Slurm has a job.
func (j *job) tellLaunched(id string) {
	if j.told >= toldLaunched {
		return
	}
	j.told = toldLaunched
	h, err := json.Marshal(handle{Version: 1, Job: id, Name: j.name, Cluster: j.b.settings.Cluster})
	if err != nil {
		panic("marshal handle: " + err.Error()) // plain fields cannot fail
	}
	j.tell(task.Change{Event: task.Event{Kind: task.EventLaunched, At: j.now(), Handle: h}})
}

// tellStarted reports that the script has begun.
func (j *job) tellStarted() {
	j.tellLaunched(j.record.Job)
	if j.told >= toldStarted {
		return
	}
	j.told = toldStarted
	j.tell(task.Change{Event: task.Event{Kind: task.EventStarted, At: task.At(j.record.Started)}})
	j.tellNote(fmt.Sprintf("Slurm job %s on %s", j.record.Job, j.record.Node))
}

// tellStopping reports that a time limit struck.
func (j *job) tellStopping(at time.Time) {
	if j.told >= toldStopping || j.stop {
		return
	}
	j.told = toldStopping
	j.tell(task.Change{Event: task.Event{Kind: task.EventStopping, At: task.At(at), Cause: task.CauseTimeout}})
}

// tellNote reports a word about the present state, if it is a new one.
func (j *job) tellNote(text string) {
	if text == j.note || j.ended {
		return
	}
	j.note = text
	c := task.Change{Seq: j.ref.Seq, Event: task.Event{Kind: task.EventNoted, At: j.now(), Attempt: j.ref.Attempt, Text: text}}
	j.b.out = append(j.b.out, c) // no part of the history: a repeat would say what was true once
}

// end reports the end.
func (j *job) end(c task.Change) {
	j.tell(c)
	j.ended = true
}

// notStarted reports that it could not be started. No job can work any more.
func (j *job) notStarted(class task.FailureClass, text string) {
	j.b.opts.Logger.Warn("a slurm job did not begin", "task", j.ref.Seq, "attempt", j.ref.Attempt, "reason", text)
	j.end(task.Change{Event: task.Event{Kind: task.EventNotStarted, At: j.now(), Class: class, Text: text, Outcome: task.Outcome{Node: j.node()}}})
}

func (j *job) now() task.Instant { return task.At(j.b.opts.Now()) }

// node is where it runs, or was to be run from.
func (j *job) node() string {
	if j.record.Node != "" {
		return j.record.Node
	}
	return j.b.host
}
