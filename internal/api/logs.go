package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// logChunk is how much output one message carries at most.
const logChunk = 64 << 10

// StreamLogs sends the output of an attempt. Following, it waits for what is
// still to come, goes on with the attempts that follow, and ends when the task
// has ended and all of it was sent.
func (s service) StreamLogs(req *pb.StreamLogsRequest, out grpc.ServerStreamingServer[pb.LogChunk]) error {
	ctx, cancel := s.rpc.UntilStop(out.Context())
	defer cancel()
	t, err := s.loggedTask(req.GetTaskId())
	if err != nil {
		return err
	}
	f := &logStream{service: s, ctx: ctx, out: out, id: t.Spec.ID, attempt: int(req.GetAttempt()), follow: req.GetFollow(), only: req.GetStream()}
	if f.attempt == 0 {
		f.attempt = t.Attempt()
	}
	if req.GetOffset() < 0 || req.GetTail() < 0 || f.attempt < 1 {
		return task.Errorf(task.CodeInvalid, "attempt, offset and tail cannot be negative")
	}
	if err := checkStream(t, f.only); err != nil {
		return err
	}
	return s.rpc.Guarded(out.Context(), func(g *rpc.Guard) error {
		changed, forget := s.feed.watch(t.Seq)
		defer forget()
		f.guard, f.changed = g, changed
		return f.run(req.GetOffset(), int(req.GetTail()))
	})
}

// streamBoth is the name of output whose streams were not told apart.
const streamBoth = "output"

// checkStream refuses a stream that nobody could pick out.
func checkStream(t task.Task, only string) error {
	switch {
	case only == "":
		return nil
	case only != "stdout" && only != "stderr":
		return task.Errorf(task.CodeInvalid, "stream is %q; it may be stdout or stderr, or empty for both", only)
	case t.Spec.Image == "":
		return task.Errorf(task.CodeUnsupported, "the output and the errors of task %s are in one file, as on a terminal: only those of containers are told apart", t.Spec.ID)
	default:
		return nil
	}
}

// run sends the attempt, and those that follow.
func (f *logStream) run(offset int64, tail int) error {
	for {
		more, err := f.sendAttempt(offset, tail)
		if err != nil || !more {
			return err
		}
		f.attempt++
		offset, tail = 0, 0
	}
}

// loggedTask returns the task with that id, or the newest one that has begun.
func (s service) loggedTask(id string) (task.Task, error) {
	if id != "" {
		return s.opts.Queue.Lookup(id)
	}
	filter := task.Filter{
		States: []task.State{task.Starting, task.Running, task.Stopping, task.Succeeded, task.Failed, task.Cancelled, task.Lost},
		Limit:  task.DefaultLimit,
	}
	for {
		tasks, next, err := s.opts.Queue.List(filter)
		if err != nil {
			return task.Task{}, err
		}
		for _, t := range tasks {
			if begun(t, t.Attempt()) {
				return t, nil
			}
		}
		if next == 0 {
			return task.Task{}, task.Errorf(task.CodeNotFound, "no task has begun yet")
		}
		filter.Before = next
	}
}

// begun says whether an attempt may have output. One that is starting may still
// wait in its backend; one that has ended may have been too short to be seen
// running.
func begun(t task.Task, attempt int) bool {
	s := t.Status()
	return attempt < s.Attempt ||
		attempt == s.Attempt && (s.StartedAt != 0 || s.State.Terminal() && s.StartingAt != 0)
}

// over says whether an attempt has ended.
func over(t task.Task, attempt int) bool { return attempt < t.Attempt() || t.State().Terminal() }

// logStream is one stream of output.
type logStream struct {
	service
	ctx     context.Context
	out     grpc.ServerStreamingServer[pb.LogChunk]
	guard   *rpc.Guard
	id      string
	attempt int
	follow  bool
	only    string          // the stream that is asked for; "" = both
	changed <-chan struct{} // something happened to the task
}

// sendAttempt sends the output of one attempt, and says whether the next one is
// to be sent as well.
func (f *logStream) sendAttempt(offset int64, tail int) (more bool, err error) {
	t, err := f.begin()
	if err != nil || !begun(t, f.attempt) {
		return false, err
	}
	output, err := f.opts.Outputs.Open(t, f.attempt)
	switch {
	case f.follow && over(t, f.attempt) && task.CodeOf(err) == task.CodeNotFound:
		return f.attempt < t.Attempt(), nil // it was taken back before it ran
	case err != nil:
		return false, err
	}
	defer func() { err = errors.Join(err, output.Close()) }()
	if tail > 0 && offset == 0 {
		if offset, err = output.TailOffset(tail); err != nil {
			return false, err
		}
	}
	if err := rpc.Send(f.guard, f.out, &pb.LogChunk{TaskId: text(f.id), Attempt: int32(f.attempt), NextOffset: offset, Stream: streamBoth}); err != nil {
		return false, err
	}
	if t, err = f.copy(output, offset); err != nil {
		return false, err
	}
	return f.follow && f.attempt < t.Attempt(), nil
}

// begin returns the task once the attempt has begun or, following, once it is
// clear that it never will.
func (f *logStream) begin() (task.Task, error) {
	for {
		t, err := f.opts.Queue.Lookup(f.id)
		switch {
		case err != nil:
			return t, err
		case begun(t, f.attempt), f.follow && t.State().Terminal():
			return t, nil
		case f.attempt > t.Attempt():
			return t, task.Errorf(task.CodeNotFound, "task %s has no attempt %d; it is at attempt %d", f.id, f.attempt, t.Attempt())
		case !f.follow && t.State().Terminal():
			return t, task.Errorf(task.CodeNotFound, "task %s has no output: it ended before it was started", f.id)
		case !f.follow:
			return t, task.Errorf(task.CodeConflict, "task %s has no output yet: it is %s; with --follow the output is awaited", f.id, t.State())
		}
		select {
		case <-f.changed:
		case <-f.ctx.Done():
			return t, context.Cause(f.ctx)
		}
	}
}

// copy sends what there is from the offset on and, following, what comes until
// the attempt is over. It returns the task as it was last seen.
func (f *logStream) copy(output Output, offset int64) (task.Task, error) {
	buf := make([]byte, logChunk)
	for {
		// Looked up before reading: what an ended attempt has printed is all there.
		t, err := f.opts.Queue.Lookup(f.id)
		if err != nil {
			return t, err
		}
		if offset, err = f.drain(output, offset, buf); err != nil {
			return t, err
		}
		if !f.follow || over(t, f.attempt) {
			return t, nil
		}
		if err := f.await(output, offset); err != nil {
			return t, err
		}
	}
}

// drain sends what there is now.
func (f *logStream) drain(output Output, offset int64, buf []byte) (int64, error) {
	for f.ctx.Err() == nil {
		n, next, err := output.Read(buf, offset)
		stream, until, lost := output.Stream(offset) // what was read is marked
		if lost != nil {
			return offset, lost
		}
		if plain := next-offset == int64(n); plain && until < next {
			n, next, err = int(until-offset), until, nil
		}
		offset = next
		if n > 0 && f.wants(stream) {
			if err := rpc.Send(f.guard, f.out, &pb.LogChunk{Data: buf[:n], NextOffset: offset, Attempt: int32(f.attempt), Stream: stream}); err != nil {
				return offset, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return offset, nil
		case err != nil:
			return offset, err
		}
	}
	return offset, context.Cause(f.ctx)
}

// wants says whether a piece of output is of the stream that was asked for, as far as that
// is known.
func (f *logStream) wants(stream string) bool {
	return f.only == "" || stream == f.only || stream == streamBoth
}

// await returns when there may be more output, or something happened to the task.
func (f *logStream) await(output Output, offset int64) error {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	var err error
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		err = output.Wait(ctx, offset)
	}()
	select {
	case <-printed:
	case <-f.changed:
		cancel()
		<-printed // the output is closed next
		err = nil // that of our cancel
	}
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	return err
}
