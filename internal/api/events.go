package api

import (
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// StreamEvents sends every event behind a place or from a time on, then follows.
func (s service) StreamEvents(req *pb.StreamEventsRequest, out grpc.ServerStreamingServer[pb.SystemEvent]) error {
	ctx, cancel := s.untilStop(out.Context())
	defer cancel()
	at, err := s.eventsFrom(req)
	if err != nil {
		return err
	}
	if err := out.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	since := req.GetSinceTimestamp()
	for {
		records, err := at.next(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.At.Time().Unix() < since {
				continue
			}
			since = 0 // what was committed later is newer, whatever its clock said
			kind := r.EventType()
			if kind == "" || !wantsType(req.GetEventTypes(), kind) {
				continue
			}
			if err := out.Send(eventTo(r, kind)); err != nil {
				return err
			}
		}
	}
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
