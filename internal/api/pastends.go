package api

import (
	"cmp"
	"errors"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// pastEnds are the ends of chosen tasks from before a stream began, in the order
// in which they are sent. Each has an index of its own, which grows, and which is
// the same whenever it is asked for, so that a stream resumes behind any of them.
type pastEnds struct {
	behind uint64 // ends up to here were sent by the stream that is resumed
	ends   []pastEnd
}

// pastEnd is one of them. Its index is that of its record. Where the log has none any
// more it is that of a record in its place which cannot be read (see fillBlanks), or else
// the number of the task: at least as many records as tasks had been written when the task
// ended, so its own had a higher index, and the log begins behind that.
type pastEnd struct {
	index uint64
	seq   task.Seq
	kept  task.Record // without a Kind: the log has none
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
	if _, kept := found.kept[task.Seq(after)]; err != nil || kept {
		return nil, err
	}
	return f.pastOf(found, after), nil
}

// pastOf puts the ends behind an index in order.
func (f *resultStream) pastOf(found ends, behind uint64) *pastEnds {
	p := &pastEnds{behind: behind}
	for seq, t := range f.chosen.bySeq {
		if t.endedAt == 0 {
			continue
		}
		e := pastEnd{index: uint64(seq), seq: seq}
		if r, ok := found.kept[seq]; ok {
			e.index, e.kept = r.Index, r
		} else if index, ok := found.blank[seq]; ok {
			e.index = index
		}
		if e.index > behind && e.index <= f.cursor.at { // what came later is read from the log
			p.ends = append(p.ends, e)
		}
	}
	slices.SortFunc(p.ends, func(a, b pastEnd) int { return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.seq, b.seq)) })
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
	for _, e := range p.ends {
		if e.kept.Kind == 0 {
			if err := f.sendLost(e.seq, e.index); err != nil {
				return err
			}
			continue
		}
		f.chosen.bySeq[e.seq].sent = e.kept.Attempt
		result, err := f.resultIn(e.kept)
		if err != nil {
			return err
		}
		if err := rpc.SendEncoded(f.guard, f.out, result); err != nil {
			return err
		}
	}
	return nil
}

// takeBlank sends the end in the place of whose record is one that cannot be read, if it is
// that of a chosen task. Which it is takes a search, which nobody makes whose log is whole.
func (f *resultStream) takeBlank(index uint64) error {
	if f.blanks == nil {
		found, err := findEnds(f.opts.Log, f.chosen)
		if err != nil {
			return err
		}
		f.blanks = map[uint64]task.Seq{}
		for seq, at := range found.blank {
			f.blanks[at] = seq
		}
	}
	seq, ok := f.blanks[index]
	if !ok {
		return nil
	}
	return f.sendLost(seq, index)
}

// sendLost sends an end of which the log has no record.
func (f *resultStream) sendLost(seq task.Seq, index uint64) error {
	result, err := f.lostEnd(f.chosen.bySeq[seq], index)
	if err != nil || result == nil {
		return err
	}
	return rpc.SendEncoded(f.guard, f.out, result)
}

// lostEnd tells the end of a task from the task, or from what is left of it; nil
// when it was given another attempt since, whose end is still to come.
func (f *resultStream) lostEnd(c *chosenTask, index uint64) (rpc.Encoded, error) {
	if c.final != nil {
		return rpc.Encode(resultTo(endingOfFinal(*c.final), index))
	}
	t, err := f.opts.Queue.Lookup(c.id)
	switch {
	case task.CodeOf(err) == task.CodeNotFound: // it was removed a moment ago
		final, err := f.opts.Queue.Removed(c.id)
		if err != nil {
			return nil, err
		}
		return rpc.Encode(resultTo(endingOfFinal(final), index))
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
	return rpc.Encode(resultTo(endingOf(t, result), index))
}
