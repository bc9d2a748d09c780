package api

import (
	"cmp"
	"errors"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// pastEnds are the ends of chosen tasks from before a stream began, in the order
// in which they are sent. Each has an index of its own, which grows, and which is
// the same whenever it is asked for, so that a stream resumes behind any of them.
type pastEnds struct {
	behind uint64 // ends up to here were sent by the stream that is resumed
	// lost are those of which the log has no record any more. Their index is the
	// number of their task: at least as many records as tasks had been written when
	// the task ended, so its own had a higher index, and the log begins behind that.
	//
	// Not so after a repair, which puts an empty record where one cannot be read: then the
	// log may begin before the number of the task. Whoever reads all of the past misses
	// nothing even so, but a stream that breaks in the middle of it, and is resumed, may
	// leave out ends; a stream that is begun anew has them. To mend that, each resumption
	// would have to look through the log, also where nothing was ever repaired.
	lost []task.Seq
	kept []task.Record
}

// findPast finds the ends of the past.
func (f *resultStream) findPast() (*pastEnds, error) {
	found, err := findEnds(f.opts.Log, f.chosen)
	if err != nil {
		return nil, err
	}
	return f.pastOf(found, 0), nil
}

// resumePast returns the past ends that a stream which broke among them has not
// sent yet; nil when it was beyond them, so that the log has all that follows.
func (f *resultStream) resumePast(after uint64) (*pastEnds, error) {
	first, err := firstIndex(f.opts.Log)
	if err != nil || after+1 >= first {
		return nil, err
	}
	// The log has not got what follows the index. It is that of a lost end, or the
	// caller has stayed away for too long.
	t := f.chosen.bySeq[task.Seq(after)]
	if t == nil || t.endedAt == 0 {
		return nil, nil
	}
	found, err := findEnds(f.opts.Log, f.chosen)
	if _, kept := found[task.Seq(after)]; err != nil || kept {
		return nil, err
	}
	return f.pastOf(found, after), nil
}

// pastOf puts the ends behind an index in order.
func (f *resultStream) pastOf(found map[task.Seq]task.Record, behind uint64) *pastEnds {
	p := &pastEnds{behind: behind}
	for seq, t := range f.chosen.bySeq {
		if t.endedAt == 0 {
			continue
		}
		r, ok := found[seq]
		switch {
		case !ok && uint64(seq) > behind:
			p.lost = append(p.lost, seq)
		case ok && r.Index > behind && r.Index <= f.cursor.at: // what came later is read from the log
			p.kept = append(p.kept, r)
		}
	}
	slices.Sort(p.lost)
	slices.SortFunc(p.kept, func(a, b task.Record) int { return cmp.Compare(a.Index, b.Index) })
	return p
}

// after returns behind which index a stream begins that sends these first.
func (p *pastEnds) after(follows cursor) uint64 {
	if p == nil {
		return follows.at
	}
	return p.behind
}

// replay sends the past ends.
func (f *resultStream) replay(p *pastEnds) error {
	if p == nil {
		return nil
	}
	for _, seq := range p.lost {
		result, err := f.lostEnd(seq, f.chosen.bySeq[seq])
		if err != nil {
			return err
		}
		if result == nil {
			continue
		}
		if err := sendEncoded(f.guard, f.out, result); err != nil {
			return err
		}
	}
	for _, r := range p.kept {
		f.chosen.bySeq[r.Seq].sent = r.Attempt
		result, err := f.resultIn(r)
		if err != nil {
			return err
		}
		if err := sendEncoded(f.guard, f.out, result); err != nil {
			return err
		}
	}
	return nil
}

// lostEnd tells the end of a task from the task, or from what is left of it; nil
// when it was given another attempt since, whose end is still to come.
func (f *resultStream) lostEnd(seq task.Seq, c *chosenTask) (encoded, error) {
	index := uint64(seq)
	if c.final != nil {
		return encode(resultTo(endingOfFinal(*c.final), index))
	}
	t, err := f.opts.Queue.Lookup(c.id)
	switch {
	case task.CodeOf(err) == task.CodeNotFound: // it was removed a moment ago
		final, err := f.opts.Queue.Removed(c.id)
		if err != nil {
			return nil, err
		}
		return encode(resultTo(endingOfFinal(final), index))
	case err != nil:
		return nil, err
	case t.Attempt() != c.attempt || !t.State().Terminal():
		return nil, nil
	}
	c.sent = c.attempt
	result, err := f.opts.Queue.Result(t.Seq)
	if err != nil && !errors.Is(err, task.ErrDamaged) { // asked for by its id, the task says what is wrong
		return nil, err
	}
	return encode(resultTo(endingOf(t, result), index))
}
