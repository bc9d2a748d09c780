package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

var _ = failpoint.Declare("supervisor-reported", "supervisor-forget")

// The protocol versions that this binary speaks.
const (
	minVersion = 1
	maxVersion = 2
	// heartbeatVersion is the first that answers pings.
	heartbeatVersion = 2
)

const (
	// maxMessage bounds one message; a batch of long commands has to fit.
	maxMessage = 256 << 20
	// reportsPerMessage keeps single messages small.
	reportsPerMessage = 512
	// reportPause is how long reports are collected after others were sent. The
	// first after a quiet time goes out at once.
	reportPause = 2 * time.Millisecond
	// reportPauseLong is that while so much waits here that no place stands idle for
	// want of a report: each costs the daemon about as much as a short task.
	reportPauseLong = 8 * time.Millisecond
	// muchWaits is how many attempts that is.
	muchWaits = 16
)

// conn is one client.
type conn struct {
	s       *supervisor
	nc      *net.UnixConn
	q       *queue // set by hello
	version uint32 // set by hello
	out     waker  // there is something to report
	pinged  atomic.Bool
	gone    chan struct{}
}

// accept serves clients until the listener closes.
func (s *supervisor) accept(ctx context.Context, l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, most likely
			s.log.Error("accept", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(tick):
			}
			continue
		}
		nc, ok := c.(*net.UnixConn)
		if !ok {
			_ = c.Close() // the listener is on a Unix socket, so this cannot be
			continue
		}
		if err := checkPeer(nc); err != nil {
			s.log.Warn("refused a connection", "error", err)
			_ = nc.Close()
			continue
		}
		wg.Go(func() { s.serveConn(ctx, nc) })
	}
}

// serveConn talks to one client until either side goes.
func (s *supervisor) serveConn(ctx context.Context, nc *net.UnixConn) {
	c := &conn{s: s, nc: nc, out: newWaker(), gone: make(chan struct{})}
	unhook := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer unhook()
	s.countClients(1)
	err := c.read(bufio.NewReaderSize(nc, 64<<10))
	s.detach(c)
	_ = nc.Close()
	s.countClients(-1)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.EPIPE) {
		s.log.Warn("connection broke", "error", err)
	}
}

func (s *supervisor) countClients(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients += n
	s.keeper.wake()
}

// read handles messages in order until the connection ends. The writer runs
// between hello and then.
func (c *conn) read(r *bufio.Reader) error {
	first := &supervisorpb.ToSupervisor{}
	opts := protodelim.UnmarshalOptions{MaxSize: maxMessage}
	if err := opts.UnmarshalFrom(r, first); err != nil {
		return err
	}
	fault := c.s.hello(c, first.GetHello())
	if fault != nil {
		return c.send(&supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Fault{Fault: fault}})
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(c.gone) // ends the writer
	wg.Go(c.write)
	for {
		m := &supervisorpb.ToSupervisor{}
		if err := opts.UnmarshalFrom(r, m); err != nil {
			return err
		}
		c.s.handle(c, m)
	}
}

// handle does what one message asks.
func (s *supervisor) handle(c *conn, m *supervisorpb.ToSupervisor) {
	switch k := m.GetKind().(type) {
	case *supervisorpb.ToSupervisor_Start:
		s.heed(c, func() { s.start(c.q, k.Start) })
	case *supervisorpb.ToSupervisor_Stop:
		s.adoptKnown(c.q, k.Stop.GetKnown())
		s.heed(c, func() { s.stop(c.q, k.Stop) })
	case *supervisorpb.ToSupervisor_Forget:
		s.heed(c, func() { s.forget(c.q, k.Forget) })
	case *supervisorpb.ToSupervisor_Pools:
		s.heed(c, func() { s.limit(c.q, k.Pools) })
	case *supervisorpb.ToSupervisor_Ping:
		c.pinged.Store(true)
		c.out.wake()
	case *supervisorpb.ToSupervisor_Bye:
		s.heed(c, func() { s.farewell = true })
	default: // of a newer client; what it needs of us it asks in Hello
	}
}

func (c *conn) send(m *supervisorpb.FromSupervisor) error {
	_, err := protodelim.MarshalTo(c.nc, m)
	return err
}

// write sends the welcome, all that is known, and then what changes.
func (c *conn) write() {
	err := c.tell()
	if !errors.Is(err, unix.EPIPE) { // else the client has gone, and what it said before is still heard
		_ = c.nc.Close() // ends the reader
	}
}

// tell is write until the connection ends.
func (c *conn) tell() error {
	s := c.s
	err := c.send(&supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Welcome{Welcome: &supervisorpb.Welcome{
		Version: c.version, SupervisorId: s.id, Host: s.where.Name, BootId: s.where.Boot, Pid: int32(os.Getpid()),
		Machine: s.where.Machine, Pids: s.where.PIDs,
	}}})
	s.mu.Lock()
	c.q.touchAll()
	s.mu.Unlock()
	for snapshot := true; err == nil; {
		var more bool
		if more, err = c.flush(snapshot); more {
			continue
		}
		snapshot = false
		if err == nil && !c.pause() {
			return nil
		}
	}
	return err
}

// flush sends a message of reports. With snapshot it is sent even if empty, and
// the last one says that it is. A ping is answered from here: whoever gets the
// answer knows that reports would have come, too.
func (c *conn) flush(snapshot bool) (more bool, err error) {
	if c.pinged.Swap(false) {
		if err := c.send(&supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Pong{Pong: &supervisorpb.Pong{}}}); err != nil {
			return false, err
		}
	}
	c.s.mu.Lock()
	if c.q.conn != c {
		c.s.mu.Unlock()
		return false, net.ErrClosed
	}
	reports, more := c.q.takeDirty(reportsPerMessage)
	m := &supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Reports{Reports: &supervisorpb.Reports{
		Reports: reports, SnapshotDone: snapshot && !more,
	}}}
	c.s.mu.Unlock()
	if len(reports) == 0 && !snapshot {
		return false, nil
	}
	err = c.send(m)
	failpoint.Here("supervisor-reported")
	return more, err
}

// pause waits a moment for more, then for something to report. It returns
// false when the connection has ended.
func (c *conn) pause() bool {
	select {
	case <-c.gone:
		return false
	case <-time.After(c.reportPause()):
	}
	select {
	case <-c.gone:
		return false
	case <-c.out:
		return true
	}
}

func (c *conn) reportPause() time.Duration {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	waiting := 0
	for _, p := range c.q.pools {
		waiting += len(p.waiting)
	}
	if waiting >= muchWaits {
		return reportPauseLong
	}
	return reportPause
}

// start takes in attempts. One that is known already is reported again. Of a client
// that may not own the queue any more none is taken: one that was frozen, and goes on
// where it was. The supervisor's mutex is held, as in those that follow.
func (s *supervisor) start(q *queue, b *supervisorpb.StartBatch) {
	outdated := tooLate(b) || b.GetFence() != 0 && b.GetFence() < q.fence
	q.fence = max(q.fence, b.GetFence())
	envs := make([][]string, len(b.GetEnvironments()))
	for i, e := range b.GetEnvironments() {
		envs[i] = texts(e.GetEntries())
	}
	for _, st := range b.GetStarts() {
		ref := refOf(st.GetName())
		if a := q.attempts[ref]; a != nil && (outdated || !s.returned(q, a, b.GetFence())) {
			s.learnClaim(a, st)
			q.touch(a)
			continue
		}
		if outdated {
			s.notTaken(q, st.GetName())
			continue
		}
		if end := s.refusal(q, st, len(envs)); end != nil {
			s.refuse(q, st.GetName(), end)
			continue
		}
		a := newAttempt(q, st.GetName(), claimIn(st))
		a.start, a.env, a.nice = st, envs[st.GetEnvironment()], q.nice
		q.attempts[ref] = a
		p := q.poolOf(st.GetPool())
		p.waiting = append(p.waiting, a)
	}
	s.refill(nil)
}

// tooLate says whether the client need not own the queue any more.
func tooLate(b *supervisorpb.StartBatch) bool {
	until := b.GetLeaseUntilNs()
	return until != 0 && bootTime(until) < bootNow()
}

// notTaken reports a start that came too late. Nothing of it is kept, and whoever owns
// the queue hands it over again.
func (s *supervisor) notTaken(q *queue, n *supervisorpb.Name) {
	a := newAttempt(q, n, &supervisorpb.Claim{})
	a.late = true
	s.log.Warn("a start came too late: its owner may have been followed by another", "queue", q.id, "task", n.GetSeq(), "attempt", n.GetAttempt())
	q.touch(a)
}

// refusal says why a start cannot be taken in; nil = it can.
func (s *supervisor) refusal(q *queue, st *supervisorpb.Start, envs int) *supervisorpb.End {
	switch {
	case q.forgotten.has(refOf(st.GetName())):
		return vanished("had ended on %s and was forgotten before it was handed over once more", s.where.Name)
	case len(st.GetArgv()) == 0:
		return notStarted("was handed over to %s without a command", s.where.Name)
	case int(st.GetEnvironment()) >= envs:
		return notStarted("was handed over to %s without its environment", s.where.Name)
	}
	return nil
}

// refuse reports a start that was not taken in as ended. Nothing of it is kept:
// should the report be lost, the start comes again.
func (s *supervisor) refuse(q *queue, n *supervisorpb.Name, end *supervisorpb.End) {
	s.log.Warn("refused a start", "queue", q.id, "task", n.GetSeq(), "attempt", n.GetAttempt(), "reason", end.GetMessage())
	a := newAttempt(q, n, &supervisorpb.Claim{})
	end.At = int64(now())
	a.phase, a.end, a.settled = ended, end, true
	q.touch(a)
}

// stop ends attempts. One that never came here is remembered as ended, so that
// a start that comes late starts nothing.
func (s *supervisor) stop(q *queue, b *supervisorpb.StopBatch) {
	for _, n := range b.GetNames() {
		ref := refOf(n)
		a := q.attempts[ref]
		switch {
		case a != nil:
			s.stopAttempt(a, supervisorpb.StopCause_STOP_CAUSE_ASKED)
		case !q.forgotten.has(ref):
			a = newAttempt(q, n, &supervisorpb.Claim{})
			q.attempts[ref] = a
			s.finish(a, notBegun())
			q.clerk.wake()
		}
	}
	s.refill(nil)
}

// forget drops attempts whose ends are stored elsewhere.
func (s *supervisor) forget(q *queue, b *supervisorpb.ForgetBatch) {
	failpoint.Here("supervisor-forget")
	for _, n := range b.GetNames() {
		ref := refOf(n)
		a := q.attempts[ref]
		if a == nil || !a.settled {
			continue
		}
		q.drop(a)
		q.journal.add(a.name, &supervisorpb.Forgot{})
	}
	q.clerk.wake()
	if q.size > journalLarge {
		q.compact()
	}
}

// journalLarge is when a journal is made small again.
const journalLarge = 4 << 20

// limit sets the sizes of pools.
func (s *supervisor) limit(q *queue, l *supervisorpb.PoolLimits) {
	for name, n := range l.GetLimits() {
		q.poolOf(name).limit = int(n)
	}
	s.refill(nil)
}
