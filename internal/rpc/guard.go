package rpc

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Guard knows since when a stream waits for its reader to take what was sent.
type Guard struct {
	now   func() time.Time
	began time.Time
	// since is how long after began the stream began to wait; 0 = it does not wait. Both
	// times are with the monotonic clock: when the wall clock is set, no reader is cut off
	// that was quick, and none is kept that is slow.
	since atomic.Int64
}

func newGuard(now func() time.Time) *Guard { return &Guard{now: now, began: now()} }

// Send sends one message, and waits while the reader's window is full.
func Send[T any](g *Guard, out interface{ Send(*T) error }, m *T) error {
	return g.watch(func() error { return out.Send(m) })
}

// SendEncoded is Send for a message that was encoded before.
func SendEncoded(g *Guard, out grpc.ServerStream, m Encoded) error {
	return g.watch(func() error { return out.SendMsg(m) })
}

func (g *Guard) watch(send func() error) error {
	g.since.Store(max(1, int64(g.now().Sub(g.began))))
	defer g.since.Store(0)
	return send()
}

func (g *Guard) stalled(limit time.Duration) bool {
	since := g.since.Load()
	return since != 0 && g.now().Sub(g.began)-time.Duration(since) >= limit
}

// Guarded runs a stream, and cuts it off when a message waits for its reader
// longer than Options.SendTimeout: it holds memory, and whoever reads so slowly
// is mostly not there any more.
//
// A send that waits cannot be ended but by ending its stream. So the stream runs
// in a goroutine of its own, which a cut-off leaves behind for as long as gRPC
// takes to end the send; Serve waits for it.
func (s *Server) Guarded(ctx context.Context, run func(*Guard) error) error {
	g := newGuard(s.opts.Now)
	done := make(chan error, 1)
	s.streams.Go(func() { done <- s.survive(func() error { return run(g) }) })
	look := time.NewTicker(s.opts.SendTimeout / 4)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if g.stalled(s.opts.SendTimeout) {
				method, _ := grpc.Method(ctx)
				who, _ := PeerFrom(ctx)
				s.log.Warn("slow reader cut off", "method", method, "peer", who.String(), "after", s.opts.SendTimeout)
				return s.opts.SlowReader
			}
		}
	}
}
