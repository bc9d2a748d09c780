package api

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Bounds of what a submission stream takes in before it is on disk. The reader
// stops at either, and gRPC's flow control stops the sender.
const (
	streamChunk = 1000     // tasks of one commit, and tasks that wait for the next
	streamBytes = 16 << 20 // of both together, beside one message that is being taken apart
)

// maxRefusals is how many refused tasks the answer to a stream names.
const maxRefusals = 1000

// submissionStream is a stream of tasks from a client.
type submissionStream = grpc.ClientStreamingServer[pb.SubmitTaskStreamRequest, pb.SubmitTaskStreamResponse]

// SubmitTaskStream accepts any number of tasks.
func (s service) SubmitTaskStream(stream submissionStream) error {
	ctx, cancel := s.rpc.UntilStop(stream.Context())
	defer cancel()
	in := &submissions{
		ctx: ctx, stream: stream,
		next: make(chan submission, streamChunk), room: semaphore.NewWeighted(streamBytes),
	}
	// Recv returns only when the stream is over, so this outlives the handler by
	// as long as gRPC takes for that.
	s.rpc.Go(in.read)
	reply := &pb.SubmitTaskStreamResponse{}
	for {
		chunk, err := in.take()
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return stream.SendAndClose(reply)
		}
		if err := s.acceptChunk(ctx, chunk, reply); err != nil {
			return err
		}
		in.release(chunk)
	}
}

// acceptChunk stores tasks in one commit and counts what became of them.
func (s service) acceptChunk(ctx context.Context, chunk []submission, reply *pb.SubmitTaskStreamResponse) error {
	reqs, bytes := make([]*pb.SubmitTaskRequest, len(chunk)), int64(0)
	for i, c := range chunk {
		reqs[i] = c.req
		bytes += c.bytes
	}
	leave, err := s.inflight.enterHeld(ctx, bytes)
	if err != nil {
		return err
	}
	defer leave()
	answers, err := s.submit(ctx, reqs, needID)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx) // says whether the client has left or the server stops
	case err != nil:
		return err
	}
	for _, a := range answers {
		position := reply.Accepted + reply.Existing + reply.Refused
		switch {
		case a.GetSuccess() && a.GetExisting():
			reply.Existing++
		case a.GetSuccess():
			reply.Accepted++
		default:
			reply.Refused++
			if len(reply.Refusals) < maxRefusals {
				reply.Refusals = append(reply.Refusals, &pb.RefusedTask{Position: position, Answer: a})
			}
		}
	}
	return nil
}

// needID refuses a task of a stream that has no id.
func needID(spec *task.Spec) error {
	if spec.ID != "" {
		return nil
	}
	return task.Errorf(task.CodeInvalid,
		"a task of a stream needs an id, so that a stream that breaks can be sent again; to have ids made, use SubmitTask or SubmitTasks")
}

// submissions is the receiving side of a submission stream.
type submissions struct {
	ctx    context.Context
	stream submissionStream
	next   chan submission // closed by read
	err    error           // why read ended; set before next is closed
	room   *semaphore.Weighted
}

type submission struct {
	req   *pb.SubmitTaskRequest
	bytes int64 // what it takes of the room
}

// read receives until the stream ends.
func (in *submissions) read() {
	defer close(in.next)
	for {
		message, err := in.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			in.err = err
			return
		}
		for _, req := range message.GetTasks() {
			if in.err = in.put(req); in.err != nil {
				return
			}
		}
	}
}

// put waits for room for a task.
func (in *submissions) put(req *pb.SubmitTaskRequest) error {
	s := submission{req, min(int64(proto.Size(req)), streamBytes)}
	if in.room.Acquire(in.ctx, s.bytes) != nil {
		return context.Cause(in.ctx)
	}
	select {
	case in.next <- s:
		return nil
	case <-in.ctx.Done():
		return context.Cause(in.ctx)
	}
}

// take waits for a submission and returns it with those that are there already.
// None and no error: the client has sent all.
func (in *submissions) take() ([]submission, error) {
	var first submission
	var ok bool
	select {
	case first, ok = <-in.next:
	case <-in.ctx.Done():
		return nil, context.Cause(in.ctx)
	}
	if !ok {
		return nil, in.err
	}
	chunk := []submission{first}
	for len(chunk) < streamChunk {
		select {
		case s, ok := <-in.next:
			if !ok {
				return chunk, nil
			}
			chunk = append(chunk, s)
		default:
			return chunk, nil
		}
	}
	return chunk, nil
}

func (in *submissions) release(chunk []submission) {
	for _, c := range chunk {
		in.room.Release(c.bytes)
	}
}
