package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// pulse reads from the connection, for as long as it takes, and tells when
// nothing comes. Only the time in which somebody reads counts.
type pulse struct {
	nc    *net.UnixConn
	limit time.Duration         // of silence; 0 = none
	fell  func(since time.Time) // it fell silent
	spoke func()                // it was silent, and is heard again
	quiet bool
}

func (p *pulse) Read(b []byte) (int, error) {
	if p.limit <= 0 {
		return p.nc.Read(b)
	}
	since := time.Now()
	for {
		if err := p.nc.SetReadDeadline(time.Now().Add(p.limit)); err != nil {
			return 0, err
		}
		n, err := p.nc.Read(b)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			if !p.quiet {
				p.quiet = true
				p.fell(since)
			}
			continue
		}
		if n > 0 && p.quiet {
			p.quiet = false
			p.spoke()
		}
		return n, err
	}
}

// silence is since when the supervisor does not answer; zero = it does, or there
// is none.
type silence struct {
	pid   int
	since time.Time
}

// text says it for people, with what to do.
func (s silence) text(now time.Time) string {
	return fmt.Sprintf("the process supervisor (pid %d) does not answer since %s; it may be stopped (SIGSTOP) or wait for a disk: "+
		"try kill -CONT %d; if that does not help, kill -KILL %d: running tasks go on, and another one takes over",
		s.pid, now.Sub(s.since).Round(time.Second), s.pid, s.pid)
}

// silentError is returned when the supervisor accepts us and says nothing.
type silentError struct{ pid int }

// Error says who is silent.
func (e *silentError) Error() string {
	return fmt.Sprintf("the process supervisor (pid %d) does not answer", e.pid)
}

// setSilent notes that nothing can be handed over until the supervisor speaks.
func (b *Backend) setSilent(pid int, since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = nil
	if b.silent.pid != pid {
		b.silent = silence{pid: pid, since: since}
	}
}

// listen has the connection tell when the supervisor falls silent, and when it
// speaks again, and asks it for a word from time to time. The function that it
// returns ends that. An older supervisor cannot be asked.
func (b *Backend) listen(ss *session, awake func()) (stop func()) {
	if ss.version < heartbeatVersion {
		return func() {}
	}
	ss.pulse.fell = func(since time.Time) {
		b.setSilent(ss.pid, since)
		b.opts.Logger.Warn("process supervisor", "error", &silentError{ss.pid})
	}
	ss.pulse.spoke = func() {
		if err := b.handOver(ss); err != nil {
			return // the connection is closed, and whoever reads from it notices
		}
		b.opts.Logger.Info("the process supervisor answers again", "pid", ss.pid)
		awake()
	}
	ss.pulse.limit = b.opts.Silence
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { ss.ping(ctx, b.opts.PingEvery) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// ping asks for a word from time to time, and not again before it has come.
func (ss *session) ping(ctx context.Context, every time.Duration) {
	timer := time.NewTicker(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if ss.asked.Swap(true) {
			continue
		}
		if ss.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Ping{Ping: &supervisorpb.Ping{}}}) != nil {
			return // the connection is closed, and whoever reads from it notices
		}
	}
}
