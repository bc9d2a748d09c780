package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

var _ = failpoint.Declare("supervisor-reported", "supervisor-forget")

// The protocol versions that this binary speaks.
const (
	minVersion = 1
	maxVersion = 1
)

const (
	// maxMessage bounds one message; a batch of long commands has to fit.
	maxMessage = 256 << 20
	// reportsPerMessage keeps single messages small.
	reportsPerMessage = 512
	// reportPause is how long reports are collected after others were sent. The
	// first after a quiet time goes out at once.
	reportPause = 2 * time.Millisecond
)

// conn is one client.
type conn struct {
	s    *supervisor
	nc   *net.UnixConn
	q    *queue // set by hello
	out  waker  // there is something to report
	gone chan struct{}
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
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
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
		s.start(c.q, k.Start)
	case *supervisorpb.ToSupervisor_Stop:
		s.stop(c.q, k.Stop)
	case *supervisorpb.ToSupervisor_Forget:
		s.forget(c.q, k.Forget)
	case *supervisorpb.ToSupervisor_Pools:
		s.limit(c.q, k.Pools)
	case *supervisorpb.ToSupervisor_Bye:
		s.mu.Lock()
		s.farewell = true
		s.mu.Unlock()
	default: // of a newer client; what it needs of us it asks in Hello
	}
}

// hello agrees on the version, opens the queue's journal and makes this the
// queue's connection. An earlier one is of a client that is gone or stuck.
func (s *supervisor) hello(c *conn, h *supervisorpb.Hello) *supervisorpb.Fault {
	if h.GetQueueId() == "" || h.GetMaxVersion() < minVersion || h.GetMinVersion() > maxVersion {
		return &supervisorpb.Fault{
			Reason: supervisorpb.Fault_REASON_VERSION,
			Text: fmt.Sprintf("the running process supervisor (pid %d) speaks versions %d to %d, the client %d to %d: "+
				"when no task runs, end it with kill %d, and a new one is started", os.Getpid(), minVersion, maxVersion, h.GetMinVersion(), h.GetMaxVersion(), os.Getpid()),
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.openQueue(h)
	if err != nil {
		// Another supervisor has the tasks of this queue, and its socket was taken
		// from it or is not bound again yet. This one must not stand in its way.
		s.farewell = s.farewell || errors.Is(err, errJournalHeld)
		s.log.Error("cannot open a queue", "queue", h.GetQueueId(), "error", err)
		return &supervisorpb.Fault{Reason: supervisorpb.Fault_REASON_SPOOL, Text: strings.ToValidUTF8(err.Error(), "?")}
	}
	q.logCap, q.nice = int64(h.GetLogCap()), int(h.GetNice())
	if old := q.conn; old != nil {
		_ = old.nc.Close() // its own goroutine does the rest
	}
	c.q, q.conn = q, c
	s.farewell = false
	return nil
}

// detach ends the connection's place as that of its queue.
func (s *supervisor) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.q != nil && c.q.conn == c {
		c.q.conn = nil
		for _, a := range c.q.dirty {
			a.dirty = false
		}
		c.q.dirty = nil
	}
}

func (c *conn) send(m *supervisorpb.FromSupervisor) error {
	_, err := protodelim.MarshalTo(c.nc, m)
	return err
}

// write sends the welcome, all that is known, and then what changes.
func (c *conn) write() {
	defer c.nc.Close() //nolint:errcheck // ends the reader
	s := c.s
	err := c.send(&supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Welcome{Welcome: &supervisorpb.Welcome{
		Version: min(maxVersion, maxVersion), SupervisorId: s.id, Host: s.host, BootId: s.boot, Pid: int32(os.Getpid()),
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
			return
		}
	}
}

// flush sends a message of reports. With snapshot it is sent even if empty, and
// the last one says that it is.
func (c *conn) flush(snapshot bool) (more bool, err error) {
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
	case <-time.After(reportPause):
	}
	select {
	case <-c.gone:
		return false
	case <-c.out:
		return true
	}
}

// start takes in attempts. One that is known already is reported again.
func (s *supervisor) start(q *queue, b *supervisorpb.StartBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	envs := make([][]string, len(b.GetEnvironments()))
	for i, e := range b.GetEnvironments() {
		envs[i] = texts(e.GetEntries())
	}
	for _, st := range b.GetStarts() {
		ref := refOf(st.GetName())
		if a := q.attempts[ref]; a != nil {
			q.touch(a)
			continue
		}
		if end := s.refusal(q, st, len(envs)); end != nil {
			s.refuse(q, st.GetName(), end)
			continue
		}
		a := newAttempt(q, st.GetName(), &supervisorpb.Claim{
			TimeoutNs: st.GetTimeoutNs(), GraceNs: st.GetGraceNs(), LogPath: st.GetLogPath(), Pool: st.GetPool(),
		})
		a.start, a.env, a.nice = st, envs[st.GetEnvironment()], q.nice
		q.attempts[ref] = a
		p := q.poolOf(st.GetPool())
		p.waiting = append(p.waiting, a)
	}
	s.pump(q)
	s.employ()
}

// refusal says why a start cannot be taken in; nil = it can.
func (s *supervisor) refusal(q *queue, st *supervisorpb.Start, envs int) *supervisorpb.End {
	switch {
	case q.forgotten.has(refOf(st.GetName())):
		return vanished("had ended on %s and was forgotten before it was handed over once more", s.host)
	case len(st.GetArgv()) == 0:
		return notStarted("was handed over to %s without a command", s.host)
	case int(st.GetEnvironment()) >= envs:
		return notStarted("was handed over to %s without its environment", s.host)
	}
	return nil
}

// refuse reports a start that was not taken in as ended. Nothing of it is kept:
// should the report be lost, the start comes again.
func (s *supervisor) refuse(q *queue, n *supervisorpb.Name, end *supervisorpb.End) {
	s.log.Warn("refused a start", "queue", q.id, "task", n.GetSeq(), "attempt", n.GetAttempt(), "reason", end.GetMessage())
	a := newAttempt(q, n, &supervisorpb.Claim{})
	end.At = int64(now())
	a.phase, a.end = ended, end
	q.touch(a)
}

// stop ends attempts. One that never came here is remembered as ended, so that
// a start that comes late starts nothing.
func (s *supervisor) stop(q *queue, b *supervisorpb.StopBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
		}
	}
}

// forget drops attempts whose ends are stored elsewhere.
func (s *supervisor) forget(q *queue, b *supervisorpb.ForgetBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failpoint.Here("supervisor-forget")
	for _, n := range b.GetNames() {
		ref := refOf(n)
		a := q.attempts[ref]
		if a == nil || a.phase != ended {
			continue
		}
		delete(q.attempts, ref)
		q.forgotten.add(ref)
		q.journal.add(a.name, &supervisorpb.Forgot{})
	}
	_ = s.commit(q) // logged; what is forgotten twice does no harm
	if q.journal.size > journalLarge {
		s.compact(q)
	}
}

// journalLarge is when a journal is made small again.
const journalLarge = 4 << 20

// limit sets the sizes of pools.
func (s *supervisor) limit(q *queue, l *supervisorpb.PoolLimits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, n := range l.GetLimits() {
		q.poolOf(name).limit = int(n)
	}
	s.pump(q)
	s.employ()
}
