package api

import (
	"slices"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// StreamEvents sends every event behind a place or from a time on, then follows.
func (s service) StreamEvents(req *pb.StreamEventsRequest, out grpc.ServerStreamingServer[pb.SystemEvent]) error {
	ctx, cancel := s.rpc.UntilStop(out.Context())
	defer cancel()
	at, err := s.eventsFrom(req)
	if err != nil {
		return err
	}
	if err := out.SendHeader(resumeHeader(at.at)); err != nil {
		return err
	}
	return s.rpc.Guarded(out.Context(), func(g *rpc.Guard) error {
		f := &eventStream{out: out, guard: g, types: req.GetEventTypes(), since: req.GetSinceTimestamp()}
		sub := s.feed.subscribe(at.at, interest{every: true})
		defer sub.close()
		for {
			records, err := sub.next(ctx)
			if err != nil {
				return err
			}
			if err := f.send(records); err != nil {
				return err
			}
		}
	})
}

// eventStream is one stream of events.
type eventStream struct {
	out   grpc.ServerStreamingServer[pb.SystemEvent]
	guard *rpc.Guard
	types []string // empty = all
	since int64    // unix seconds
}

func (f *eventStream) send(records []task.Record) error {
	for _, r := range records {
		if r.At.Time().Unix() < f.since {
			continue
		}
		f.since = 0 // what was committed later is newer, whatever its clock said
		kind := r.EventType()
		if kind == "" || !wantsType(f.types, kind) {
			continue
		}
		if err := rpc.Send(f.guard, f.out, eventTo(r, kind)); err != nil {
			return err
		}
	}
	return nil
}

// eventsFrom returns where in the event log the reading begins. For a time that
// is its beginning: clocks can be set back, so the log is in the order of the
// commits and only roughly in that of the times, and cannot be searched by time.
func (s service) eventsFrom(req *pb.StreamEventsRequest) (cursor, error) {
	switch {
	case req.GetAfterIndex() > 0:
		return resume(s.opts.Log, req.GetAfterIndex())
	case req.GetSinceTimestamp() > 0:
		return cursor{log: s.opts.Log}, nil
	default:
		return cursor{log: s.opts.Log, at: s.opts.Log.LastIndex()}, nil
	}
}

func wantsType(types []string, kind string) bool {
	return len(types) == 0 || slices.Contains(types, kind)
}
