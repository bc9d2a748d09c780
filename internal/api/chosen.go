package api

import (
	"maps"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// chosen are the tasks that the caller of a stream of results wants to hear of.
// There may be very many, so that no more of each is kept than has to be.
type chosen struct {
	bySeq map[task.Seq]*chosenTask
	left  int    // how many ends are still to come
	until uint64 // the log contains every end that was found when they were looked up
}

type chosenTask struct {
	id      string
	attempt int          // when it was looked up; 0 for one that was removed
	endedAt task.Instant // likewise; 0 = it had not ended
	final   *task.Final  // what is left of one that was removed
	coming  bool         // its end is still to come
	sent    int          // the attempt whose end was sent out of the past
}

// choose looks the tasks up. One that retention has removed has ended, and what is
// still known of its end is told.
func (s service) choose(ids []string) (*chosen, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	c := &chosen{bySeq: map[task.Seq]*chosenTask{}}
	var unknown []string
	for _, id := range ids {
		seq, t, err := s.chooseOne(id)
		switch {
		case task.CodeOf(err) == task.CodeNotFound:
			unknown = append(unknown, id)
			continue
		case err != nil:
			return nil, err
		}
		if c.bySeq[seq] == nil {
			c.bySeq[seq] = t
			c.expect(t, t.endedAt == 0)
		}
	}
	if len(unknown) > 0 {
		return nil, task.Errorf(task.CodeNotFound, "no such task: %s", strings.Join(unknown, ", "))
	}
	c.until = s.opts.Log.LastIndex()
	return c, nil
}

func (s service) chooseOne(id string) (task.Seq, *chosenTask, error) {
	t, err := s.opts.Queue.Lookup(id)
	if task.CodeOf(err) == task.CodeNotFound {
		final, err := s.opts.Queue.Removed(id)
		return final.Seq, &chosenTask{id: final.ID, endedAt: final.EndedAt, final: &final}, err
	}
	if err != nil {
		return 0, nil, err
	}
	c := &chosenTask{id: t.Spec.ID, attempt: t.Attempt()}
	if t.State().Terminal() {
		c.endedAt = t.Status().EndedAt
	}
	return t.Seq, c, nil
}

// expect notes whether the end of a task is still to come.
func (c *chosen) expect(t *chosenTask, coming bool) {
	switch {
	case coming && !t.coming:
		c.left++
	case !coming && t.coming:
		c.left--
	}
	t.coming = coming
}

func (c *chosen) seqs() []task.Seq { return slices.Collect(maps.Keys(c.bySeq)) }

// wants takes note of a record, and says whether it is an end to be sent.
func (c *chosen) wants(r task.Record) bool {
	t := c.bySeq[r.Seq]
	switch {
	case t == nil:
		return false
	case r.Kind == task.EventRetried:
		c.expect(t, true) // a person wants to see it end once more
		return false
	case !r.Ended():
		return false
	}
	c.expect(t, false)
	return r.Attempt > t.sent
}
