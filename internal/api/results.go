package api

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// StreamTaskResults sends each end of a task once, in the order of the event log.
func (s service) StreamTaskResults(req *pb.StreamTaskResultsRequest, out grpc.ServerStreamingServer[pb.TaskResult]) error {
	ctx, cancel := s.untilStop(out.Context())
	defer cancel()
	// The place is taken before the tasks are looked at: what ends between is in
	// both, and sent once.
	at, err := s.resultsFrom(req)
	if err != nil {
		return err
	}
	f := &resultStream{service: s, ctx: ctx, out: out, cursor: at}
	if err := f.choose(req.GetTaskIds()); err != nil {
		return err
	}
	// The header tells the caller that nothing from here on will be missed.
	if err := out.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	if req.GetIncludeCompleted() && req.GetAfterIndex() == 0 && f.chosen != nil {
		if err := f.replay(); err != nil {
			return err
		}
	}
	return f.follow()
}

// resultsFrom returns where in the event log the stream begins. The endings of
// chosen tasks are replayed from the tasks themselves; reading the whole log for
// them would take as long as the log is.
func (s service) resultsFrom(req *pb.StreamTaskResultsRequest) (cursor, error) {
	switch {
	case req.GetAfterIndex() > 0:
		return resume(s.opts.Log, req.GetAfterIndex())
	case req.GetIncludeCompleted() && len(req.GetTaskIds()) == 0:
		return cursor{log: s.opts.Log}, nil
	default:
		return cursor{log: s.opts.Log, at: s.opts.Log.LastIndex()}, nil
	}
}

// resultStream is one stream of results.
type resultStream struct {
	service
	ctx    context.Context
	out    grpc.ServerStreamingServer[pb.TaskResult]
	cursor cursor

	// The rest is for a stream of chosen tasks; nil for one of all.
	chosen []task.Task       // as they were when the stream began
	wanted map[task.Seq]bool // every chosen one: whether its end is still to come
	left   int               // how many ends are still to come
	until  uint64            // the log contains every end that chosen shows up to here
	sent   map[task.Seq]int  // the attempt whose end was replayed
}

// choose looks up the tasks that the caller wants to hear of.
func (f *resultStream) choose(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	f.wanted, f.sent = map[task.Seq]bool{}, map[task.Seq]int{}
	var unknown []string
	for _, id := range ids {
		t, err := f.opts.Queue.Lookup(id)
		switch {
		case task.CodeOf(err) == task.CodeNotFound:
			unknown = append(unknown, id)
			continue
		case err != nil:
			return err
		}
		if _, twice := f.wanted[t.Seq]; twice {
			continue
		}
		f.chosen = append(f.chosen, t)
		f.expect(t.Seq, !t.State().Terminal())
	}
	if len(unknown) > 0 {
		return task.Errorf(task.CodeNotFound, "no such task: %s", strings.Join(unknown, ", "))
	}
	f.until = f.opts.Log.LastIndex()
	return nil
}

// expect notes whether the end of a chosen task is still to come.
func (f *resultStream) expect(seq task.Seq, coming bool) {
	if f.wanted[seq] != coming {
		if coming {
			f.left++
		} else {
			f.left--
		}
	}
	f.wanted[seq] = coming
}

// replay sends the chosen tasks that have ended. Their index is the place where
// the stream began: a caller who resumes there gets some again, and misses none.
func (f *resultStream) replay() error {
	for _, t := range f.chosen {
		if !t.State().Terminal() {
			continue
		}
		result, err := f.opts.Queue.Result(t.Seq)
		if err != nil {
			return err
		}
		f.sent[t.Seq] = t.Attempt()
		if err := f.out.Send(resultTo(endingOf(t, result), f.cursor.at)); err != nil {
			return err
		}
	}
	return nil
}

// follow sends the ends that the log tells of, until all chosen tasks have ended.
func (f *resultStream) follow() error {
	for f.chosen == nil || f.left > 0 || f.cursor.at < f.until {
		records, err := f.cursor.next(f.ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := f.take(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// take sends a record if it is an end that the caller wants.
func (f *resultStream) take(r task.Record) error {
	if _, ok := f.wanted[r.Seq]; f.chosen != nil && !ok {
		return nil
	}
	if r.Kind == task.EventRetried && f.chosen != nil {
		f.expect(r.Seq, true) // a person wants to see it end once more
		return nil
	}
	if !r.Ended() {
		return nil
	}
	if f.chosen != nil {
		f.expect(r.Seq, false)
		if r.Attempt <= f.sent[r.Seq] {
			return nil
		}
	}
	e, err := f.endingIn(r)
	if err != nil {
		return err
	}
	return f.out.Send(resultTo(e, r.Index))
}

// endingIn reads the end that a record tells of. The task has more to say about
// it, unless it was removed since, or has begun another attempt.
func (s service) endingIn(r task.Record) (ending, error) {
	t, err := s.opts.Queue.Lookup(r.ID)
	switch {
	case task.CodeOf(err) == task.CodeNotFound:
		return endingOfRecord(r), nil
	case err != nil:
		return ending{}, err
	case t.Seq != r.Seq || t.Attempt() != r.Attempt || !t.State().Terminal():
		return endingOfRecord(r), nil
	}
	result, err := s.opts.Queue.Result(t.Seq)
	return endingOf(t, result), err
}
