package process

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// errRefused is returned when the supervisor says that it cannot serve us. Its
// text says why and what to do.
var errRefused = errors.New("the process supervisor refused the connection")

// session is one connection to the supervisor.
type session struct {
	nc      *net.UnixConn
	pulse   *pulse
	r       *bufio.Reader // from pulse
	version uint32
	pid     int
	origin

	asked atomic.Bool  // for a Pong that has not come
	stuck atomic.Int64 // since when a send could not go on, in Unix nanoseconds; 0 = none
	mu    sync.Mutex   // of writing
}

// A supervisor that was stopped (SIGSTOP) or hangs must not hang us: the engine
// itself waits for sends.
const (
	sendPatience  = 2 * time.Second
	helloPatience = 5 * time.Second
	byePatience   = 200 * time.Millisecond
)

// openSession connects and says hello.
func openSession(path string, h *supervisorpb.Hello) (*session, error) {
	nc, err := dial(path)
	if err != nil {
		return nil, fmt.Errorf("connect to the process supervisor: %w", err)
	}
	ss := &session{nc: nc, pulse: &pulse{nc: nc}}
	ss.r = bufio.NewReaderSize(ss.pulse, 64<<10)
	if err := nc.SetReadDeadline(time.Now().Add(helloPatience)); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	err = ss.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Hello{Hello: h}})
	var m *supervisorpb.FromSupervisor
	if err == nil {
		m, err = ss.receive()
	}
	if err == nil {
		err = ss.welcome(m)
	}
	if err == nil {
		err = nc.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		peer, peerErr := host.PeerOf(nc) // the kernel knows who listens, even if that one sleeps
		err = errors.Join(&silentError{pid: int(peer.PID)}, err, peerErr)
	}
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return ss, nil
}

func (ss *session) welcome(m *supervisorpb.FromSupervisor) error {
	if f := m.GetFault(); f != nil {
		return fmt.Errorf("%w: %s", errRefused, f.GetText())
	}
	w := m.GetWelcome()
	if w == nil {
		return fmt.Errorf("%w: it did not answer hello", errRefused)
	}
	ss.version, ss.id, ss.pid = w.GetVersion(), w.GetSupervisorId(), int(w.GetPid())
	ss.where = host.Identity{Machine: w.GetMachine(), Boot: w.GetBootId(), PIDs: w.GetPids(), Name: w.GetHost()}
	return nil
}

func (ss *session) send(m *supervisorpb.ToSupervisor) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.write(m, sendPatience)
}

// write is send for those who hold the mutex. A message that went out in part
// makes the connection useless, so it is closed; whoever reads from it notices.
func (ss *session) write(m *supervisorpb.ToSupervisor, patience time.Duration) error {
	began := time.Now()
	err := ss.nc.SetWriteDeadline(began.Add(patience))
	if err == nil {
		_, err = protodelim.MarshalTo(ss.nc, m)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		ss.stuck.CompareAndSwap(0, began.UnixNano())
	}
	if err != nil {
		return fmt.Errorf("write to the process supervisor: %w", errors.Join(err, ss.nc.Close()))
	}
	return nil
}

// leave says good-bye if that can be done at once, and closes the connection in
// any case: a send that is stuck holds the mutex, and ends by that.
func (ss *session) leave() {
	late := time.AfterFunc(byePatience, func() { _ = ss.nc.Close() })
	defer late.Stop()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	_ = ss.write(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Bye{Bye: &supervisorpb.Bye{}}}, byePatience)
	_ = ss.nc.Close()
}

func (ss *session) receive() (*supervisorpb.FromSupervisor, error) {
	m := &supervisorpb.FromSupervisor{}
	if err := (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(ss.r, m); err != nil {
		return nil, fmt.Errorf("read from the process supervisor: %w", err)
	}
	return m, nil
}
