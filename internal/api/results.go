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
	return s.guarded(out.Context(), func(g *guard) error {
		f := &resultStream{service: s, ctx: ctx, out: out, guard: g}
		return f.run(req)
	})
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
	guard  *guard
	cursor cursor // up to where the log was read

	// The rest is for a stream of chosen tasks; nil for one of all.
	chosen []task.Task       // as they were when the stream began
	wanted map[task.Seq]bool // every chosen one: whether its end is still to come
	left   int               // how many ends are still to come
	until  uint64            // the log contains every end that chosen shows up to here
	sent   map[task.Seq]int  // the attempt whose end was replayed
}

func (f *resultStream) run(req *pb.StreamTaskResultsRequest) (err error) {
	// The place is taken before the tasks are looked at: what ends between is in
	// both, and sent once.
	if f.cursor, err = f.resultsFrom(req); err != nil {
		return err
	}
	if err := f.choose(req.GetTaskIds()); err != nil {
		return err
	}
	// The header tells the caller that nothing from here on will be missed.
	if err := f.out.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	if req.GetIncludeCompleted() && req.GetAfterIndex() == 0 && f.chosen != nil {
		if err := f.replay(); err != nil {
			return err
		}
	}
	if err := f.catchUp(); err != nil {
		return err
	}
	return f.follow()
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
		if err := send(f.guard, f.out, resultTo(endingOf(t, result), f.cursor.at)); err != nil {
			return err
		}
	}
	return nil
}

// catchUp sends what the log contains already.
func (f *resultStream) catchUp() error {
	for last := max(f.until, f.opts.Log.LastIndex()); f.cursor.at < last; {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		records, err := f.cursor.ready()
		if err != nil {
			return err
		}
		if err := f.takeAll(records); err != nil {
			return err
		}
	}
	return nil
}

// follow sends the ends that are still to come, until all chosen tasks have ended.
func (f *resultStream) follow() error {
	in := interest{ends: f.chosen == nil}
	for seq := range f.wanted {
		in.seqs = append(in.seqs, seq)
	}
	sub := f.feed.subscribe(f.cursor.at, in)
	defer sub.close()
	for f.chosen == nil || f.left > 0 {
		records, err := sub.next(f.ctx)
		if err != nil {
			return err
		}
		if err := f.takeAll(records); err != nil {
			return err
		}
	}
	return nil
}

func (f *resultStream) takeAll(records []task.Record) error {
	for _, r := range records {
		if err := f.take(r); err != nil {
			return err
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
	result, err := f.resultIn(r)
	if err != nil {
		return err
	}
	return send(f.guard, f.out, result)
}
