package slurm

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// finish reports an end of which there is a record. Where Slurm may have had a hand in
// it, its word is waited for.
func (j *job) finish() {
	r := j.record
	row, there := j.rowOf(r.Job)
	if j.needsWord() {
		current := !j.listed.Before(j.heard)
		if !current || there && row.State.phase() != gone || j.awaitsHistory(there) {
			return // squeue is asked soon
		}
	}
	o, cause := j.outcome(row, there)
	at := task.At(r.Ended)
	if cause != task.NoCause {
		if cause == task.CauseTimeout {
			j.tellStopping(r.Ended)
		}
		j.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: at, Outcome: o}})
		return
	}
	res, err := j.result(&o)
	if err != nil {
		return
	}
	j.end(task.Change{Event: task.Event{Kind: task.EventExited, At: at, Outcome: o, Unprompted: true}, Result: res})
}

// needsWord says that only Slurm knows why it ended so.
func (j *job) needsWord() bool {
	r := j.record
	return !r.Term.IsZero() || j.prompted() || r.Code > 128 && r.Fault == "" && r.Limit.IsZero()
}

// clockSkew is how far the clock of a node may be behind ours. Slurm itself, by munge, bears
// minutes; where time is kept at all it is far less than this.
const clockSkew = 5 * time.Second

// prompted says that we had asked for the end when it came, and that it was heard: the
// script sees the SIGTERM that Slurm sends, and what is killed has the code of a signal.
func (j *job) prompted() bool {
	r := j.record
	return j.signal.sent() && !r.Ended.Before(j.signal.At.Add(-clockSkew)) && (!r.Term.IsZero() || r.Code > 128)
}

// outcome puts an end into our words; a cause says that it was made to end.
func (j *job) outcome(row Job, there bool) (task.Outcome, task.Cause) {
	r := j.record
	o := task.Outcome{ExitCode: r.Code, Node: r.Node}
	if r.Code > 128 && r.Code <= 128+64 {
		o.ExitCode, o.Signal = -1, r.Code-128
	}
	switch {
	case j.prompted():
		cause := j.signal.Cause
		if cause == task.NoCause {
			cause = task.CauseCancel
		}
		return o, cause
	case !r.Limit.IsZero() && !r.Ended.Before(r.Limit):
		o.Class = task.Timeout
		return o, task.CauseTimeout
	case r.Fault != "":
		o.Class, o.Message = task.UserError, j.faultText()
		return o, task.NoCause
	case there && (o.ExitCode != 0 || o.Signal != 0):
		if class, text := struckBy(row); class != task.NoFailure {
			o.Class, o.Message = class, text
		}
		if row.State == "TIMEOUT" && j.task.Spec.Timeout == 0 {
			o.Message += ", since the task has none of its own: give it one with --timeout"
		}
		if row.State == "TIMEOUT" && !r.Term.IsZero() {
			return o, task.CauseTimeout
		}
	}
	return o, task.NoCause
}

// struckBy says what Slurm did to a job; NoFailure when it did nothing.
func struckBy(row Job) (task.FailureClass, string) {
	switch row.State {
	case "TIMEOUT":
		return task.Timeout, fmt.Sprintf("Slurm ended job %s at its time limit", row.ID)
	case "DEADLINE":
		return task.Timeout, fmt.Sprintf("Slurm ended job %s at its deadline", row.ID)
	case "OUT_OF_MEMORY":
		return task.OutOfMemory, fmt.Sprintf("job %s used more memory than it asked Slurm for; give it more with --mem", row.ID)
	case "PREEMPTED":
		return task.Preempted, fmt.Sprintf("Slurm gave the nodes of job %s to a job with more right to them", row.ID)
	case "NODE_FAIL":
		return task.NodeLost, fmt.Sprintf("a node of job %s (%s) failed", row.ID, row.Nodes)
	case "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL":
		return task.CouldNotStart, fmt.Sprintf("Slurm could not start job %s (%s)", row.ID, stateWords(row.State))
	case "CANCELLED", "REVOKED":
		return task.UserError, fmt.Sprintf("job %s was cancelled in Slurm, not by this scheduler: scancel, or an administrator", row.ID)
	default:
		return task.NoFailure, ""
	}
}

// result reads what the program gave back. An error says that it may be there, and
// cannot be read now.
func (j *job) result(o *task.Outcome) (task.Result, error) {
	l := j.b.layout
	res, err := taskfiles.ReadResultOf(l.ResultPath(j.ref), l.LogPath(j.ref), 1, j.b.opts.ResultLimit)
	switch {
	case err == nil:
		return res, nil
	case errors.Is(err, taskfiles.ErrUnread):
		j.b.touch(j)
		if j.b.said.due(j.b.opts.Now(), "result", j.ref, err) {
			j.b.opts.Logger.Warn("the result of a task cannot be read; will try again", "task", j.ref.Seq, "error", err)
		}
		return nil, err
	case o.ExitCode == 0 && o.Signal == 0:
		o.Class, o.Message = task.UserError, "ended with exit code 0, but "+err.Error()
	}
	return nil, nil
}

// endedUnheard reports an end of which there is no record, by what Slurm says. It is
// never a success.
func (j *job) endedUnheard(row Job, there bool) {
	if j.record.Job == "" {
		j.neverBegan(row, there)
		return
	}
	if j.prompted() || j.signal.sent() {
		j.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: j.now(), Outcome: task.Outcome{ExitCode: -1, Signal: int(syscall.SIGKILL), Node: j.record.Node}}})
		return
	}
	class, text := task.NoFailure, ""
	if there {
		class, text = struckBy(row)
	}
	switch class {
	case task.NoFailure, task.NodeLost:
		if class == task.NoFailure {
			text = fmt.Sprintf("job %s is over in Slurm, and left no record of its end (its script was killed, or the file system failed on %s)", j.record.Job, j.record.Node)
		}
		// A node that is lost to Slurm may work on: whether to try again is for on_lost.
		j.end(task.Change{Event: task.Event{Kind: task.EventVanished, At: j.now(), Class: task.Vanished, Text: text, Outcome: task.Outcome{Node: j.record.Node}}})
	default:
		o := task.Outcome{ExitCode: -1, Signal: int(syscall.SIGKILL), Class: class, Message: text, Node: j.record.Node}
		j.end(task.Change{Event: task.Event{Kind: task.EventExited, At: j.now(), Outcome: o, Unprompted: true}})
	}
}

// neverBegan reports that the job ended before its script had made the claim. We make it,
// so that this stays true.
func (j *job) neverBegan(row Job, there bool) {
	void, err := j.dir.takeClaim()
	if err != nil {
		j.claimTrouble(err)
		return
	}
	if !void {
		j.reread() // it has begun after all
		if j.record.Job == "" {
			j.end(task.Change{Event: task.Event{
				Kind: task.EventVanished, At: j.now(), Class: task.Vanished, Text: "its Slurm job ended while it began, and left no record",
			}})
		}
		return
	}
	j.void = true
	class, text := task.CouldNotStart, ""
	if there {
		class, text = struckBy(row)
	}
	switch {
	case !there:
		class, text = task.CouldNotStart, fmt.Sprintf("Slurm does not know job %s any more, and it never began", j.ids[len(j.ids)-1])
	case class == task.NoFailure:
		class, text = task.CouldNotStart, fmt.Sprintf("job %s is %s in Slurm and never began: %s", row.ID, stateWords(row.State), j.whyNever())
	case class == task.NodeLost:
		class = task.CouldNotStart
	}
	j.notStarted(class, text)
}

// whyNever is where to look when a script did not even make its claim.
func (j *job) whyNever() string {
	return fmt.Sprintf("%s has to be on a file system that the nodes share with %s; %s may say more", j.b.layout.Dir, j.b.host, j.b.layout.LogPath(j.ref))
}
