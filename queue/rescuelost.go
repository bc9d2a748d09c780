package queue

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// lookLost finds the tasks of which something is there, but not what was asked for.
func (r *rescuer) lookLost() {
	specs, tombs := r.s.pile(bucketSpecs), r.s.pile(bucketTombs)
	suspect := func(seq task.Seq) {
		if k := seqKey(seq); seq != 0 && seq <= r.lastSeq && !specs.has(k) && !tombs.has(k) {
			if _, known := r.lost[seq]; !known {
				r.lost[seq] = task.Final{Seq: seq}
			}
		}
	}
	for k := range specs.bad {
		suspect(keyNumber([]byte(k)))
	}
	for _, e := range r.s.pile(bucketStatus).items {
		suspect(keySeq(e.key))
	}
	if r.listed {
		for _, e := range r.s.pile(bucketLists).items {
			if seq := keyNumber(e.key); specs.gone(seqKey(seq)) {
				suspect(seq)
			}
		}
	}
	if specs.whole() || !r.s.pile(bucketTombs).whole() {
		return
	}
	for _, e := range r.s.pile(bucketEvents).items {
		if ev, err := readEvent(e.key, e.value); err == nil && ev.Kind != 0 && specs.gone(seqKey(ev.Seq)) {
			suspect(ev.Seq)
		}
	}
}

// nameLost tells of the tasks that are lost, and of numbers of which nothing is known.
func (r *rescuer) nameLost() error {
	specs := r.s.pile(bucketSpecs)
	for _, seq := range slices.Sorted(maps.Keys(r.lost)) {
		f, text, err := r.endOfLost(seq, r.lost[seq])
		if err != nil {
			return err
		}
		r.lost[seq] = f
		r.found(FoundTask, seq, f.ID, "%s", text)
	}
	tombs := r.s.pile(bucketTombs)
	for _, lost := range specs.lost {
		from, to := r.numbers(lost, uint64(r.highest))
		if from > to {
			continue
		}
		n := to - from + 1 - specs.between(from, to) - tombs.between(from, to)
		for seq := range r.lost {
			if from <= uint64(seq) && uint64(seq) <= to {
				n--
			}
		}
		if n > 0 {
			r.findings = append(r.findings, Finding{
				Kind: FoundTask, Seq: task.Seq(from), Last: task.Seq(to),
				Text: fmt.Sprintf("nothing is known of %d of them: they were removed long ago, or are lost", n),
			})
		}
	}
	return nil
}

// endOfLost finds out how a task has ended of which what was asked for is lost: as its
// status says, or the event log. Where neither tells of an end it is ended now.
func (r *rescuer) endOfLost(seq task.Seq, f task.Final) (_ task.Final, text string, err error) {
	text = "what was asked for is lost"
	var st task.Status
	var rec queuepb.StatusRecord
	if v := r.s.pile(bucketStatus).get(seqKey(seq)); v != nil && openMessage(bucketStatus, seqKey(seq), v, &rec) == nil {
		st = decodeStatus(&rec)
		if f.State, f.EndedAt = 0, 0; st.State.Terminal() {
			f.State, f.EndedAt = st.State, st.EndedAt
		}
		text += fmt.Sprintf("; it was %s", st.State)
		if st.State.Active() {
			text += fmt.Sprintf(" on backend %s, and its work may still go on", st.Backend)
		}
	} else if f.State != 0 {
		text += fmt.Sprintf("; the event log says that it %s", endVerb(f.State))
	}
	if f.State == 0 {
		ended, err := r.lose(seq, st)
		if err != nil {
			return f, text, fmt.Errorf("end task %d, which is lost: %w", seq, err)
		}
		f.State, f.EndedAt = ended.State(), ended.Status().EndedAt
	}
	if f.EndedAt == 0 {
		f.EndedAt = r.now
	}
	return f, text, nil
}

// lose ends a task as one that nobody saw end, by the steps that every other takes. What it
// waited for is lost with it; so one that was not active is placed first.
func (r *rescuer) lose(seq task.Seq, st task.Status) (t task.Task, err error) {
	stub := &task.Spec{OnLost: task.LostFail}
	if st.State.Active() {
		t = task.Restore(seq, stub, st)
	} else if t, err = task.Apply(task.New(seq, stub, 0), task.Event{Kind: task.EventPlaced, At: r.now, Attempt: 1, By: r.by}); err != nil {
		return t, err
	}
	return task.Apply(t, task.Event{Kind: task.EventVanished, At: r.now, Attempt: t.Attempt(), By: r.by, Text: "what was asked for was lost with a damaged database"})
}
