package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Submitted is what became of one spec.
type Submitted struct {
	// Task is the task that the spec became, or the one that has its id already.
	Task task.Task
	// Existing says that the same submission was accepted before.
	Existing bool
	// Final is set instead of Task when retention has removed the existing task.
	Final *task.Final
	// Err says why the spec was not accepted; the others are not affected. It is a
	// task.Error: CodeInvalid, CodeConflict for an id that was used for something
	// else, CodeExhausted and ErrFull when too many tasks wait.
	Err error
}

// Submit accepts specs, in order and in one transaction, and answers each. The
// error is for all of them: none was stored.
//
// A spec without an id is given one, and one without a SubmittedAt the present
// time. The specs are not changed; what was filled in is in the returned tasks.
// A spec may wait for earlier ones of the same call. One that waits for a task
// that has already ended the wrong way is accepted and refused in one go, so
// that it can be looked up like any other.
func (q *Queue) Submit(ctx context.Context, specs []*task.Spec) ([]Submitted, error) {
	subs := make([]submission, len(specs))
	weight := 0
	for i, s := range specs {
		subs[i] = q.prepare(s)
		if subs[i].err == nil {
			weight++
		}
	}
	answers := make([]Submitted, len(specs))
	if weight == 0 {
		for i := range subs {
			answers[i].Err = subs[i].err
		}
		return answers, nil
	}
	err := q.write(ctx, weight, func(b *batch) error {
		for i := range subs {
			var err error
			if answers[i], err = b.submit(&subs[i]); err != nil {
				return fmt.Errorf("submit %s: %w", subs[i].spec.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// submission is a spec made ready by its caller's goroutine, so that the writer
// has little left to do.
type submission struct {
	spec   *task.Spec
	hash   idHash
	env    envHash
	sealed []byte // the spec's record; nil while the Seqs of its After are unknown
	fresh  bool   // its id was made here, so that no other task has it
	err    error
}

func (q *Queue) prepare(in *task.Spec) submission {
	spec := *in
	now := q.opts.Now()
	fresh := spec.ID == ""
	if fresh {
		id, err := q.ids.Next(now)
		if err != nil {
			return submission{err: err}
		}
		spec.ID = id
	}
	if spec.SubmittedAt == 0 {
		spec.SubmittedAt = task.At(now)
	}
	if err := spec.Validate(); err != nil {
		return submission{err: err}
	}
	s := submission{spec: &spec, hash: hashID(spec.ID), env: hashEnv(spec.Ambient), fresh: fresh}
	if s.sealed, s.err = sealSpec(&spec, s.env); len(spec.After) > 0 {
		s.sealed = nil // it was only tried
	}
	return s
}

// sealSpec fails only for text that cannot be stored.
func sealSpec(spec *task.Spec, env envHash) ([]byte, error) {
	v, err := seal(encodeSpec(spec, env))
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "task %s has text that is not valid UTF-8 (image, needs, backends or resources): %w", spec.ID, err)
	}
	return v, nil
}

// submit answers one spec. Everything that can be wrong with it is found before
// anything is written.
func (b *batch) submit(s *submission) (Submitted, error) {
	if s.err != nil {
		return Submitted{Err: s.err}, nil
	}
	if !s.fresh {
		held, err := verifyID(b.tx, s.spec.ID, b.candidates(s.hash))
		switch {
		case b.q.damaged(held.seq, err):
			return Submitted{Err: cannotRead(s.spec.ID, err)}, nil
		case err != nil:
			return Submitted{}, err
		case held.seq != 0:
			return b.existing(s.spec, held)
		}
	}
	if limit := b.q.opts.MaxWaiting; limit > 0 && b.waiting() >= limit {
		return Submitted{Err: errFull(limit)}, nil
	}
	deps, sealed, err := b.depend(s)
	if err != nil {
		if code := task.CodeOf(err); code == task.CodeInvalid || code == task.CodeConflict {
			return Submitted{Err: err}, nil
		}
		return Submitted{}, err
	}
	e, err := b.insert(s, sealed, deps)
	if err != nil {
		return Submitted{}, err
	}
	return Submitted{Task: e.task}, nil
}

// existing answers a spec whose id is taken.
func (b *batch) existing(spec *task.Spec, h holder) (Submitted, error) {
	answer := Submitted{Existing: true, Final: h.tomb}
	var digest task.Digest
	if h.tomb != nil {
		digest = h.tomb.Digest
	} else {
		t, err := b.wholeTask(h.seq)
		if b.q.damaged(h.seq, err) {
			return Submitted{Err: cannotRead(spec.ID, err)}, nil
		}
		if err != nil {
			return Submitted{}, err
		}
		answer.Task = t
		digest = t.Spec.Digest()
	}
	if digest != spec.Digest() {
		return Submitted{Err: task.Errorf(task.CodeConflict, "id %s belongs to a task that was submitted with other content; choose another id, or submit exactly the same again", spec.ID)}, nil
	}
	return answer, nil
}

// wholeTask returns a task with its environment and payload.
func (b *batch) wholeTask(seq task.Seq) (task.Task, error) {
	if e, ok := b.tasks[seq]; ok && e.fresh {
		return e.task, nil
	}
	return readTask(b.tx, seq)
}

// waiting returns how many tasks are Pending, those of this batch included.
func (b *batch) waiting() int {
	if b.before < 0 {
		b.before = b.q.mem.counts.total(isPending) + b.counts.total(isPending)
	}
	return b.before + b.inserted
}

// depend finds the tasks that a spec waits for. The spec's copy then names them
// by Seq.
func (b *batch) depend(s *submission) (dependencies, []byte, error) {
	if len(s.spec.After) == 0 {
		return dependencies{}, s.sealed, nil
	}
	spec := *s.spec // the request may run again
	spec.After = slices.Clone(spec.After)
	for i := range spec.After {
		d := &spec.After[i]
		h, err := verifyID(b.tx, d.ID, b.candidates(hashID(d.ID)))
		if err != nil {
			refused, err := b.unknownEnd(spec.ID, err)
			return dependencies{}, nil, cmp.Or(refused, err)
		}
		if h.seq == 0 {
			return dependencies{}, nil, task.Errorf(task.CodeInvalid, "task %s waits for %s, which the queue does not know; submit that first", spec.ID, d.ID)
		}
		d.Seq = h.seq
	}
	s.spec = &spec
	deps, err := b.resolve(spec.After)
	if err != nil {
		refused, err := b.unknownEnd(spec.ID, err)
		return dependencies{}, nil, cmp.Or(refused, err)
	}
	sealed, err := sealSpec(&spec, s.env)
	return deps, sealed, err
}

// insert stores a new task.
func (b *batch) insert(s *submission, sealed []byte, deps dependencies) (*entry, error) {
	b.lastSeq++
	seq, spec := b.lastSeq, s.spec
	k := seqKey(seq)
	if err := b.shareEnv(s.env, spec.Ambient); err != nil {
		return nil, err
	}
	if err := b.bucket(bucketSpecs).Put(k, sealed); err != nil {
		return nil, err
	}
	if len(spec.Payload) > maxInlinePayload {
		if err := b.bucket(bucketPayloads).Put(k, sealBytes(spec.Payload)); err != nil {
			return nil, err
		}
	}
	b.newIDs.add(s.hash, seq)
	e := &entry{task: task.New(seq, spec, len(deps.waits)), fresh: true, dirty: true, at: spec.SubmittedAt, waits: deps.waits}
	b.tasks[seq] = e
	b.order = append(b.order, seq)
	err := b.log(task.Record{
		At: spec.SubmittedAt, Seq: seq, ID: spec.ID, Class: spec.Class,
		Kind: task.EventSubmitted, Attempt: 1, To: task.Pending, Text: spec.Via,
	})
	if deps.refuse == "" {
		b.inserted++
	} else if err == nil {
		err = b.step(e, task.Event{Kind: task.EventRefused, At: b.now, Attempt: 1, Text: deps.refuse})
	}
	return e, err
}
