package queue

import (
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// revive brings a task to where it was, and takes the steps that follow from what is
// not known. Each of them is an event like any other, and is in the event log.
func (w *rebuilder) revive(b *batch, e *entry, seq task.Seq, spec *task.Spec, missing string) error {
	status, stored := w.status(seq)
	doubt := w.doubtful[seq]
	switch {
	case doubt != nil:
		e.task = task.New(seq, spec, 0)
	case stored:
		e.task = task.Restore(seq, spec, status)
	default:
		e.task = task.New(seq, spec, 0)
	}
	b.tasks[seq] = e
	b.order = append(b.order, seq)
	e.at = waitsSince(e.task)
	var err error
	switch {
	case doubt != nil:
		err = w.reviveDoubtful(b, e, doubt)
	case e.task.State() == task.Pending:
		err = w.reviveWaits(b, e, status.Blocked)
	}
	if err != nil {
		return err
	}
	if missing != "" && e.task.State() == task.Pending {
		return w.step(b, e, task.Event{
			Kind: task.EventRefused, Class: task.CouldNotStart,
			Text: fmt.Sprintf("its %s was lost when the database was damaged; submit it again under another id", missing),
		})
	}
	if w.holdAll == "" || e.task.State().Terminal() {
		return nil
	}
	return w.holdBack(b, e)
}

func (w *rebuilder) status(seq task.Seq) (task.Status, bool) {
	k := seqKey(seq)
	v := w.s.pile(bucketStatus).get(k)
	var rec queuepb.StatusRecord
	if v == nil || openMessage(bucketStatus, k, v, &rec) != nil {
		return task.Status{Attempt: 1}, false
	}
	return decodeStatus(&rec), true
}

// step takes a step. One that the task is past already is none.
func (w *rebuilder) step(b *batch, e *entry, ev task.Event) error {
	ev.At, ev.Attempt = w.now, e.task.Attempt()
	if ev.By == "" {
		ev.By = w.by
	}
	return b.step(e, ev)
}

// reviveDoubtful holds a task that may have run. If it may have, its next attempt has
// another number: the former one's is taken wherever it ran.
func (w *rebuilder) reviveDoubtful(b *batch, e *entry, doubt *trace) error {
	waits, lost, err := w.unended(b, e.task.Spec)
	if err != nil {
		return err
	}
	reason := "what was stored of its state was lost with a damaged database: it may run, or have run, already" + doubt.says()
	if len(waits) == 0 && (doubt.started || doubt.last.Kind == 0) {
		for range max(1, doubt.last.Attempt) {
			if err := w.again(b, e, "what was stored of its state was lost with a damaged database"); err != nil {
				return err
			}
		}
	}
	if len(waits) > 0 {
		s := e.task.Status()
		s.Blocked, e.waits = len(waits), waits
		e.task = task.Restore(e.task.Seq, e.task.Spec, s)
	}
	if lost != "" {
		reason += "; " + lost
	}
	return w.step(b, e, task.Event{Kind: task.EventHeld, Text: reason})
}

// again ends the present attempt as one that nobody saw end, and begins the next.
func (w *rebuilder) again(b *batch, e *entry, text string) error {
	if e.task.State() == task.Pending {
		if err := w.step(b, e, task.Event{Kind: task.EventPlaced}); err != nil {
			return err
		}
	}
	if err := w.step(b, e, task.Event{Kind: task.EventVanished, Text: text}); err != nil {
		return err
	}
	if e.task.State() != task.Lost || e.task.Status().Cancel != nil {
		return nil
	}
	return w.step(b, e, task.Event{Kind: task.EventRetried})
}

// holdBack holds a task that has not ended. One that runs is no longer followed: it
// is another queue's, or nobody knows where it has come to.
func (w *rebuilder) holdBack(b *batch, e *entry) error {
	if e.task.State().Active() {
		if err := w.again(b, e, w.holdAll); err != nil {
			return err
		}
	}
	if s := e.task.Status(); s.State != task.Pending || s.Cancel != nil || s.Held == w.holdAll {
		return nil
	}
	reason := w.holdAll
	if was := e.task.Status().Held; was != "" {
		reason += "; before that it was held because " + was
	}
	return w.step(b, e, task.Event{Kind: task.EventHeld, Text: reason})
}

// reviveWaits finds out what a task waits for: what the index says, if that is as
// much as the task says, else what its dependencies have come to.
func (w *rebuilder) reviveWaits(b *batch, e *entry, blocked int) error {
	deps := conditionsOf(e.task.Spec)
	index := w.s.pile(bucketWaits)
	var waits []wait
	for _, d := range deps {
		if index.has(seqSeqKey(d.dep, e.task.Seq)) {
			waits = append(waits, d)
		}
	}
	if len(waits) != blocked || !index.whole() {
		return w.recountWaits(b, e, blocked)
	}
	e.waits = waits
	return w.dropLost(b, e)
}

// recountWaits takes the step that Advance would take for each dependency that has
// ended.
func (w *rebuilder) recountWaits(b *batch, e *entry, blocked int) error {
	if blocked == 0 {
		return nil
	}
	waits, lost, err := w.unended(b, e.task.Spec)
	if err != nil {
		return err
	}
	for range blocked - len(waits) {
		if err := w.step(b, e, task.Event{Kind: task.EventDepEnded}); err != nil {
			return err
		}
	}
	s := e.task.Status()
	s.Blocked, e.waits = len(waits), waits
	e.task = task.Restore(e.task.Seq, e.task.Spec, s)
	for _, d := range conditionsOf(e.task.Spec) {
		end, err := b.endOf(d.dep)
		if err != nil {
			return err
		}
		if _, gone := w.lost[d.dep]; gone || end == nil || end.state == 0 {
			continue
		}
		if cond, unmet := d.when.unmet(*end); unmet {
			e.waits = nil
			return w.step(b, e, task.Event{Kind: task.EventRefused, Text: refusal(cond, depID(e.task.Spec, d.dep), *end)})
		}
	}
	if lost == "" {
		return w.dropLost(b, e)
	}
	return w.step(b, e, task.Event{Kind: task.EventHeld, Text: lost})
}

// dropLost holds a task that waits for one that is lost, since nobody will tell it of
// an end.
func (w *rebuilder) dropLost(b *batch, e *entry) error {
	kept := e.waits[:0:0]
	lost := ""
	for _, d := range e.waits {
		if w.present(d.dep) {
			kept = append(kept, d)
			continue
		}
		if err := w.step(b, e, task.Event{Kind: task.EventDepEnded}); err != nil {
			return err
		}
		lost = waitsForLost(e.task.Spec, d.dep)
	}
	if e.waits = kept; lost == "" {
		return nil
	}
	return w.step(b, e, task.Event{Kind: task.EventHeld, Text: lost})
}

func waitsForLost(s *task.Spec, dep task.Seq) string {
	return fmt.Sprintf("it waits for %s, which was lost with a damaged database", depID(s, dep))
}

func (w *rebuilder) present(seq task.Seq) bool {
	return w.s.pile(bucketSpecs).has(seqKey(seq))
}

// unended returns what of a task's dependencies has not ended, and a sentence about
// one that is lost.
func (w *rebuilder) unended(b *batch, s *task.Spec) (waits []wait, lost string, err error) {
	for _, d := range conditionsOf(s) {
		if _, gone := w.lost[d.dep]; gone {
			lost = waitsForLost(s, d.dep)
			continue
		}
		end, err := b.endOf(d.dep)
		if err != nil {
			return nil, "", err
		}
		if end == nil {
			waits = append(waits, d)
		}
	}
	return waits, lost, nil
}

// conditionsOf returns a spec's dependencies, each once.
func conditionsOf(s *task.Spec) []wait {
	var out []wait
	at := map[task.Seq]int{}
	for _, d := range s.After {
		i, ok := at[d.Seq]
		if !ok {
			i = len(out)
			at[d.Seq] = i
			out = append(out, wait{dep: d.Seq})
		}
		out[i].when = out[i].when.with(d.When)
	}
	return out
}
