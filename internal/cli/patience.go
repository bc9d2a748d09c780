package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// How long a command waits for others who have the queue. Between two looks at the
// lock it tries whether a daemon answers by now.
const (
	holderPatience = 2 * time.Second // for each of them: who keeps it longer keeps it for good
	// leavePatience is for a daemon or a drain of this host at whose socket nobody answers:
	// it is about to serve, or to leave.
	leavePatience = 10 * time.Second
	// commandPatience is for one that says that it is a command, which has it for one call
	// and lets go of it as soon as the machine lets it run, and for one that has not said
	// yet who it is: that may be looking for a former owner. One that was suspended (Ctrl-Z)
	// is not waited for like that.
	commandPatience = 30 * time.Second
	lockLook        = 200 * time.Millisecond
)

// patiently makes attempts at the queue for as long as others have it who let go of it by
// themselves. patience says how long that may be; the error is a BusyError of the last who
// has exceeded it.
func (s *session) patiently(ctx context.Context, patience func(app.Holder) time.Duration, attempt func() error) error {
	var held holding
	defer s.err.settle()
	for {
		err := attempt()
		busy, ok := app.BusyOf(err)
		switch {
		case !ok:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		lasts := held.by(busy.Holder, s.now())
		if lasts >= patience(busy.Holder) {
			return busy
		}
		s.tellHeld(busy.Holder, lasts)
	}
}

// patienceWith is how long a command waits for one who has the queue.
func (s *session) patienceWith(ctx context.Context, cfg config.Config) func(app.Holder) time.Duration {
	return func(h app.Holder) time.Duration {
		switch {
		case h.Elsewhere && !h.Command:
			return 0
		case h.Suspended, h.Elsewhere, h.PID == 0:
			return holderPatience
		case h.Command, h.Nameless:
			return s.commandPatience
		case s.serves(ctx, cfg):
			return holderPatience
		default:
			return min(leavePatience, s.commandPatience)
		}
	}
}

// unlessServed is patienceWith for what is of no use while somebody runs the queue, such
// as another drain.
func (s *session) unlessServed(ctx context.Context, cfg config.Config) func(app.Holder) time.Duration {
	return func(h app.Holder) time.Duration {
		if h.Suspended || h.Elsewhere || !h.Command && !h.Nameless && s.serves(ctx, cfg) {
			return 0
		}
		return s.patienceWith(ctx, cfg)(h)
	}
}

// serves says whether somebody answers at the workspace's socket.
func (s *session) serves(ctx context.Context, cfg config.Config) bool {
	cl, err := s.dial(ctx, ofWorkspace(cfg), false)
	if err != nil {
		return false
	}
	_ = cl.close() // nothing was asked
	return true
}

// holding is since when one and the same process has been seen to have the queue.
type holding struct {
	holder app.Holder
	since  time.Time
}

// by notes who has it, and returns for how long that has been so.
func (h *holding) by(holder app.Holder, now time.Time) time.Duration {
	if h.since.IsZero() || h.holder != holder {
		h.holder, h.since = holder, now
	}
	return now.Sub(h.since)
}

// tellHeldAfter is how long others may have the queue without a word about it.
const tellHeldAfter = time.Second

// tellHeld says who has the queue, if that lasts.
func (s *session) tellHeld(h app.Holder, lasts time.Duration) {
	if lasts < tellHeldAfter {
		return
	}
	who := "another process"
	if h.PID != 0 {
		who = fmt.Sprintf("pid %d", h.PID)
	}
	if h.Elsewhere {
		who += " on host " + oneLine(h.Host)
	}
	s.err.wait(s.now(), "note: waiting for "+who+", which has the queue", fmt.Sprintf("waiting for %s, for %s now", who, wholeSeconds(lasts)))
}

// tellWatch says why nothing happens for a while; that nothing is left of the while ends it.
func (s *session) tellWatch(o *app.Owner, left time.Duration) {
	if left <= 0 {
		s.err.settle()
		return
	}
	who := "a former owner"
	if o != nil {
		who = oneLine(o.String())
	}
	s.err.wait(s.now(), fmt.Sprintf("note: looking for %s whether %s still has the queue", wholeSeconds(left), who), fmt.Sprintf("still looking, for %s more", wholeSeconds(left)))
}

// wholeSeconds is a duration as people count who wait.
func wholeSeconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.0fs", d.Seconds())
	}
	return span(d.Round(time.Second))
}

// tellLeaving is said every other second to who waits for a process to end.
func (s *session) tellLeaving(pid int) func(waited time.Duration) {
	return func(waited time.Duration) {
		if waited >= tellHeldAfter {
			s.err.wait(s.now(), fmt.Sprintf("note: waiting for pid %d to leave", pid), fmt.Sprintf("waiting for pid %d, for %s now", pid, wholeSeconds(waited)))
		}
	}
}

// tellStart is the same for who waits for a daemon to accept calls. It may be reading a
// large queue, or looking for a former owner, which its log tells.
func (s *session) tellStart(cfg config.Config, pid int) func(waited time.Duration) {
	return func(waited time.Duration) {
		s.err.wait(s.now(), fmt.Sprintf("note: waiting for the daemon (pid %d) to accept calls; how far it is: %s", pid, oneLine(filepath.Join(cfg.LogDir, daemonProgram+".log"))),
			fmt.Sprintf("waiting for pid %d, for %s now", pid, wholeSeconds(waited)))
	}
}
