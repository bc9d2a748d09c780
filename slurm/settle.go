package slurm

import (
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// recordGrace is how long the record of a job may take to be seen here after squeue says
// that the job is over: file servers are slow to tell their clients.
const recordGrace = 8 * time.Second

// settle does the next step of an attempt, by what is known.
func (b *Backend) settle(j *job) {
	if j.ended {
		return
	}
	if j.stop {
		j.halt()
		if j.ended {
			return
		}
	}
	if j.record.Job != "" {
		// Killed between sbatch and its note, we know the number from here; without one
		// nobody would look whether the job is still there.
		j.learn(j.record.Job)
		j.tellStarted()
		if !j.record.Limit.IsZero() {
			j.tellStopping(j.record.Limit)
		}
	}
	if j.record.Exited {
		j.finish()
		return
	}
	if len(j.ids) == 0 {
		return // it is to be submitted, or looked for
	}
	row, there := j.row()
	if there {
		j.tellLaunched(row.ID)
		// What squeue said may be older than the record.
		begun := j.record.Job != ""
		if !begun || row.State.phase() == works || j.putBack(row) {
			j.tellNote(reasonText(row, begun, b.opts.Now()))
		}
	}
	if !j.isOver() {
		j.over = time.Time{}
		return
	}
	// The first word that it is over is only noted; the record may be on its way.
	if j.over.IsZero() {
		j.over = j.listed
		j.reread()
		return
	}
	if b.opts.Now().Sub(j.over) < recordGrace || !j.listed.After(j.over) {
		return
	}
	j.reread()
	if j.record.Exited || j.awaitsHistory(there) {
		return
	}
	j.endedUnheard(row, there)
}

// putBack says that Slurm took the job from its nodes, and has it wait once more.
func (j *job) putBack(row Job) bool {
	const late = 10 * time.Second // clocks of nodes may differ
	return row.State.phase() == waits && j.listed.Sub(j.record.Started) > late
}

// row is what squeue says about the job that counts: the one that works, else the oldest
// that is there.
func (j *job) row() (Job, bool) {
	if id := j.claimant(); id != "" {
		return j.rowOf(id)
	}
	var last Job
	for _, id := range j.ids {
		row, ok := j.rowOf(id)
		if ok && row.State.phase() != gone {
			return row, true
		}
		if ok {
			last = row
		}
	}
	return last, last.ID != ""
}

// isOver says that no job of the attempt works or can begin to.
func (j *job) isOver() bool {
	if !j.listed.After(j.known) {
		return false
	}
	ids := j.ids
	if id := j.claimant(); id != "" {
		ids = []string{id}
	}
	for _, id := range ids {
		row, there := j.rows[id]
		if there && row.State.phase() != gone {
			return false
		}
		if !there && j.missing[id].IsZero() {
			return false
		}
	}
	return true
}

// halt is the next step of an attempt that is to end.
func (j *job) halt() {
	if j.submitting {
		return // first what becomes of that
	}
	if !j.void && j.record.Job == "" {
		void, err := j.dir.takeClaim()
		if err != nil {
			j.claimTrouble(err)
			return
		}
		j.void = void
	}
	if j.void {
		// Nothing has begun, and nothing will; what waits in Slurm is cancelled (toCancel).
		j.end(task.Change{Event: task.Event{Kind: task.EventStopped, At: j.now(), Outcome: task.Outcome{ExitCode: -1, Node: j.b.host}}})
		return
	}
	if j.signal.sent() {
		return
	}
	s := signal{At: j.b.opts.Now(), Cause: j.cause}
	if err := j.dir.keepSignal(s); err != nil {
		j.b.touch(j)
		if j.b.said.due(j.b.opts.Now(), "signal", j.ref, err) {
			j.b.opts.Logger.Warn("cannot note that a job is to end; will try again", "task", j.ref.Seq, "error", err)
		}
		return
	}
	j.signal = s
}

// claimTrouble is that the claim cannot be taken now.
func (j *job) claimTrouble(err error) {
	j.b.touch(j)
	if j.b.said.due(j.b.opts.Now(), "claim", j.ref, err) {
		j.b.opts.Logger.Warn("cannot take the claim of a job; will try again", "task", j.ref.Seq, "error", err)
	}
}

// reasonText is the sentence about a job that is in Slurm.
func reasonText(row Job, begun bool, now time.Time) string {
	switch row.State.phase() {
	case waits:
		again := ""
		if begun {
			again = "was put back into the line, and "
		}
		text := fmt.Sprintf("Slurm job %s %swaits: %s", row.ID, again, reasonWords(row.Reason))
		if row.Start.After(now) {
			// Slurm's guess changes with every look; the hour is what a person plans by.
			text += "; Slurm expects to start it " + row.Start.Round(10*time.Minute).Format("Jan 2 15:04")
		}
		return text
	case works:
		if row.State != "RUNNING" {
			return fmt.Sprintf("Slurm job %s on %s is %s", row.ID, row.Nodes, stateWords(row.State))
		}
		if !begun {
			return fmt.Sprintf("Slurm job %s on %s is starting", row.ID, row.Nodes)
		}
		return fmt.Sprintf("Slurm job %s on %s", row.ID, row.Nodes)
	default:
		return fmt.Sprintf("Slurm job %s is %s", row.ID, stateWords(row.State))
	}
}
