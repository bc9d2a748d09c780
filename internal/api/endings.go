package api

import (
	"errors"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Bounds of what endings keeps: 16 MiB at most.
const (
	endingSlots    = 256
	endingMaxBytes = 64 << 10
)

// endings keeps the latest results as they go out, so that the task of an end
// that a thousand streams send is read from the queue once, and its result encoded
// once. It is a cache of the log's last records: what is not in it is read again.
type endings struct {
	mu    sync.Mutex
	slots [endingSlots]ended // the result of record i is at i % endingSlots
}

type ended struct {
	index  uint64
	result rpc.Encoded // a pb.TaskResult
}

func (e *endings) get(index uint64) rpc.Encoded {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slot := e.slots[index%endingSlots]; slot.index == index {
		return slot.result
	}
	return nil
}

func (e *endings) put(index uint64, result rpc.Encoded) {
	if len(result) > endingMaxBytes {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if slot := &e.slots[index%endingSlots]; slot.index < index {
		*slot = ended{index, result}
	}
}

// resultIn returns what is sent for a record that ends a task.
func (s *Server) resultIn(r task.Record) (rpc.Encoded, error) {
	if result := s.endings.get(r.Index); result != nil {
		return result, nil
	}
	e, err := s.endingIn(r)
	if err != nil {
		return nil, err
	}
	result, err := rpc.Encode(resultTo(e, r.Index))
	if err != nil {
		return nil, err
	}
	s.endings.put(r.Index, result)
	return result, nil
}

// endingIn reads the end that a record tells of. The task has more to say about
// it, unless it was removed since, has begun another attempt, or is damaged.
func (s *Server) endingIn(r task.Record) (ending, error) {
	t, err := s.opts.Queue.Lookup(r.ID)
	switch {
	case task.CodeOf(err) == task.CodeNotFound, errors.Is(err, task.ErrDamaged):
		return endingOfRecord(r), nil
	case err != nil:
		return ending{}, err
	case t.Seq != r.Seq || t.Attempt() != r.Attempt || !t.State().Terminal():
		return endingOfRecord(r), nil
	}
	result, err := s.opts.Queue.Result(t.Seq)
	if errors.Is(err, task.ErrDamaged) {
		return endingOfRecord(r), nil // asked for by its id, the task says what is wrong
	}
	return endingOf(t, result), err
}
