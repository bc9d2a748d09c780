package process

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// hello agrees on the version, opens the queue's journal and makes this the
// queue's connection. An earlier one is of a client that is gone or stuck, and
// from here on nothing counts that it said and we have not heard (see heed).
func (s *supervisor) hello(c *conn, h *supervisorpb.Hello) *supervisorpb.Fault {
	if h.GetQueueId() == "" || h.GetMaxVersion() < minVersion || h.GetMinVersion() > maxVersion {
		return &supervisorpb.Fault{
			Reason: supervisorpb.Fault_REASON_VERSION,
			Text: fmt.Sprintf("the running process supervisor (pid %d) speaks versions %d to %d, the client %d to %d: "+
				"when no task runs, end it with kill %d, and a new one is started", os.Getpid(), minVersion, maxVersion, h.GetMinVersion(), h.GetMaxVersion(), os.Getpid()),
		}
	}
	q, err := s.queueOf(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, errOpening) {
		// Nothing is wrong here, and the client comes again.
		return &supervisorpb.Fault{Reason: supervisorpb.Fault_REASON_SPOOL, Text: err.Error()}
	}
	if err != nil {
		// Another supervisor has the tasks of this queue, and its socket was taken
		// from it or is not bound again yet. This one must not stand in its way.
		s.farewell = s.farewell || errors.Is(err, errJournalHeld)
		s.log.Error("cannot open a queue", "queue", h.GetQueueId(), "error", err)
		return &supervisorpb.Fault{Reason: supervisorpb.Fault_REASON_SPOOL, Text: strings.ToValidUTF8(err.Error(), "?")}
	}
	if c.hungUp() {
		return &supervisorpb.Fault{Reason: supervisorpb.Fault_REASON_REPLACED, Text: "the client has gone"}
	}
	q.logCap, q.nice = int64(h.GetLogCap()), int(h.GetNice())
	if old := q.conn; old != nil {
		_ = old.nc.Close() // its own goroutine does the rest
	}
	c.q, q.conn, c.version = q, c, min(h.GetMaxVersion(), maxVersion)
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

// heed does what a message asks, with the supervisor's mutex held, if its
// connection still speaks for the queue. One that was replaced may have messages
// that nobody has read yet: those of a daemon that went while we slept, say. Its
// successor hears what is known of the queue, and says again what it wants of
// that. Whatever came after, from behind its back, would make what it heard untrue,
// and start what was given up.
func (s *supervisor) heed(c *conn, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.q.conn == c {
		do()
	}
}

// hungUp says whether the client has closed its end. Who did not wait for the
// answer to its hello must not take the place of one that came later and does.
func (c *conn) hungUp() (gone bool) {
	raw, err := c.nc.SyscallConn()
	if err != nil {
		return true // it is closed at our end
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
	})
	return gone || err != nil
}
