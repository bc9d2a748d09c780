package process

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// errRefused is returned when the supervisor says that it cannot serve us. Its
// text says why and what to do.
var errRefused = errors.New("the process supervisor refused the connection")

// errSilent is returned when the supervisor accepts us and says nothing.
var errSilent = errors.New("the process supervisor does not answer; it may be stopped (SIGSTOP) or wait for a disk")

// session is one connection to the supervisor.
type session struct {
	nc   *net.UnixConn
	r    *bufio.Reader
	host string
	boot string
	id   string
	pid  int

	mu sync.Mutex // of writing
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
	ss := &session{nc: nc, r: bufio.NewReaderSize(nc, 64<<10)}
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
		err = fmt.Errorf("%w: %w", errSilent, err)
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
	ss.host, ss.boot, ss.id, ss.pid = w.GetHost(), w.GetBootId(), w.GetSupervisorId(), int(w.GetPid())
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
	err := ss.nc.SetWriteDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = protodelim.MarshalTo(ss.nc, m)
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

// handleOf is the handle of an attempt that the supervisor reports.
func (ss *session) handleOf(r *supervisorpb.Report) []byte {
	return handle{Host: ss.host, Boot: ss.boot, Supervisor: ss.id, PID: r.GetPid(), Start: r.GetStartTicks()}.encode()
}
