package api

import (
	"context"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// StreamTaskResults sends each end of a task once, in the order of the event log.
func (s service) StreamTaskResults(req *pb.StreamTaskResultsRequest, out grpc.ServerStreamingServer[pb.TaskResult]) error {
	ctx, cancel := s.rpc.UntilStop(out.Context())
	defer cancel()
	return s.rpc.Guarded(out.Context(), func(g *rpc.Guard) error {
		f := &resultStream{service: s, ctx: ctx, out: out, guard: g}
		return f.run(req)
	})
}

// resultStream is one stream of results.
type resultStream struct {
	service
	ctx    context.Context
	out    grpc.ServerStreamingServer[pb.TaskResult]
	guard  *rpc.Guard
	cursor cursor  // up to where the log was read
	chosen *chosen // nil for a stream of all tasks
	// blanks are the chosen tasks whose ends stood where records cannot be read; nil =
	// it was not looked for them.
	blanks map[uint64]task.Seq
}

func (f *resultStream) run(req *pb.StreamTaskResultsRequest) error {
	past, err := f.begin(req)
	if err != nil {
		return err
	}
	// The header tells the caller that nothing from here on will be missed, and where
	// to resume when the stream breaks before its first result.
	if err := f.out.SendHeader(resumeHeader(past.after(f.cursor))); err != nil {
		return err
	}
	if err := f.replay(past); err != nil {
		return err
	}
	if err := f.catchUp(); err != nil {
		return err
	}
	return f.follow()
}

// begin finds out where the stream begins, and what it sends of the time before.
// The ends of chosen tasks are looked for one by one; reading the whole log for
// them would take as long as the log is.
func (f *resultStream) begin(req *pb.StreamTaskResultsRequest) (*pastEnds, error) {
	after := req.GetAfterIndex()
	from, err := resume(f.opts.Log, after)
	if err != nil {
		return nil, err
	}
	// The place is taken before the tasks are looked at: what ends between is found
	// in both, and sent once.
	now := cursor{log: f.opts.Log, at: f.opts.Log.LastIndex()}
	if f.chosen, err = f.choose(req.GetTaskIds()); err != nil {
		return nil, err
	}
	f.cursor = now
	switch {
	case after == 0 && !req.GetIncludeCompleted():
		return nil, nil
	case f.chosen == nil:
		f.cursor = from
		return nil, nil
	case after == 0:
		return f.findPast()
	}
	past, err := f.resumePast(after)
	if err == nil && past == nil {
		f.cursor = from
	}
	return past, err
}

// resumeIndexHeader names the header of a stream's answer that has the index
// behind which the stream begins.
const resumeIndexHeader = "after-index"

func resumeHeader(after uint64) metadata.MD {
	return metadata.Pairs(resumeIndexHeader, strconv.FormatUint(after, 10))
}

// catchUp sends what the log contains already.
func (f *resultStream) catchUp() error {
	last := f.opts.Log.LastIndex()
	if f.chosen != nil {
		last = max(last, f.chosen.until)
	}
	for f.cursor.at < last {
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
	if f.chosen != nil {
		in.seqs = f.chosen.seqs()
	}
	sub := f.feed.subscribe(f.cursor.at, in)
	defer sub.close()
	for f.chosen == nil || f.chosen.left > 0 {
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
	if f.chosen != nil && r.Kind == 0 && r.Index <= f.chosen.until {
		return f.takeBlank(r.Index)
	}
	if f.chosen != nil && !f.chosen.wants(r) || !r.Ended() {
		return nil
	}
	result, err := f.resultIn(r)
	if err != nil {
		return err
	}
	return rpc.SendEncoded(f.guard, f.out, result)
}
