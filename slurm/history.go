package slurm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// What squeue has forgotten (MinJobAge after its end), a database of jobs may still know.
// Most sites of a group have none, so nothing depends on it: it tells why a job ended that
// left no record, or that was struck while nobody looked.
//
//	squeue knows the job   its end is recorded   a database   then
//	yes                    any                   any          squeue's word counts
//	no                     yes, by itself        any          the record counts, nobody is asked
//	no                     yes, by a signal      yes          sacct is asked why
//	no                     no                    yes          sacct is asked why
//	no                     any                   no           nothing more is to be known
//
// sacct's word about a job that it takes for running counts as none: the database is behind.

// mostAsked is how often sacct is asked about a job, and askedAgain the pause before: the
// database may be away for a moment.
const (
	mostAsked  = 2
	askedAgain = 20 * time.Second
)

// mostHistory is about how many jobs it is asked at a time.
const mostHistory = 200

// historyFormat is what sacct is asked for, as squeueFormat has it.
const historyFormat = "JobIDRaw,JobName,State,Partition,Start,NodeList,Reason"

// History returns what the database knows of jobs. It may know none of them.
func (c *Client) History(ctx context.Context, jobs ...string) ([]Job, error) {
	s, err := c.run(ctx, nil, "sacct", "--noheader", "--parsable2", "--allocations", "--format="+historyFormat, "--jobs="+strings.Join(jobs, ","))
	if err != nil {
		return nil, unanswered(err)
	}
	return parseHistory(s.out), nil
}

// parseHistory reads what sacct prints: the lines of squeue, but for "CANCELLED by UID".
func parseHistory(text string) []Job {
	var out []Job
	for line := range strings.Lines(text) {
		j, ok := parseJob(strings.TrimSuffix(line, "\n"))
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(string(j.State), " ")
		j.State = State(word)
		if j.Nodes == "None assigned" {
			j.Nodes = ""
		}
		out = append(out, j)
	}
	return out
}

// awaitsHistory says that sacct is to tell why a job ended, which squeue does not know.
func (j *job) awaitsHistory(there bool) bool {
	j.due = !there && j.b.settings.Accounting && j.asked < mostAsked
	return j.due
}

// rowOf is what is known of a job: from squeue, else from the database.
func (j *job) rowOf(id string) (Job, bool) {
	if row, ok := j.rows[id]; ok {
		return row, true
	}
	row, ok := j.past[id]
	return row, ok
}

// askHistory calls sacct for all attempts that wait for it.
func (b *Backend) askHistory(ctx context.Context, calls *sync.WaitGroup) {
	if b.asking || b.down != "" || !b.settings.Accounting {
		return
	}
	var ids []string
	var asked []*job
	now := b.opts.Now()
	for _, j := range b.curious {
		if !j.due || j.ended || now.Before(j.askAfter) || len(ids) >= mostHistory {
			continue
		}
		asked = append(asked, j)
		ids = append(ids, j.ids...)
	}
	if len(ids) == 0 {
		return
	}
	b.asking = true
	b.call(calls, func() func() {
		rows, err := b.opts.Slurm.History(ctx, ids...)
		return func() {
			b.asking = false
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, ErrMissing) {
				b.settings.Accounting = false // a host without sacct
			}
			if err != nil && b.said.due(b.opts.Now(), "sacct", task.Ref{}, err) {
				b.opts.Logger.Warn("sacct does not tell how jobs ended; their records alone do", "error", err)
			}
			for _, j := range asked {
				j.remember(rows, err == nil)
				b.touch(j)
			}
		}
	})
}

// remember takes in what sacct said; answered is false when it said nothing.
func (j *job) remember(rows []Job, answered bool) {
	j.due = false
	j.asked++
	if answered {
		j.asked = mostAsked
	}
	j.askAfter = j.b.opts.Now().Add(askedAgain)
	for _, row := range rows {
		if row.Name != j.name || row.State.phase() != gone {
			continue // of another time, when numbers began anew; or the database is behind
		}
		if j.past == nil {
			j.past = map[string]Job{}
		}
		j.past[row.ID] = row
	}
}
