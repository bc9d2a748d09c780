package cli

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// How long and how often a command looks for a daemon that went away: long enough
// to be restarted or replaced by a newer one, which running tasks survive.
const (
	reconnectFor   = 30 * time.Second
	reconnectEvery = 500 * time.Millisecond
	// settled is how long a daemon has to have been back for its next going to be
	// another one.
	settled = 5 * time.Second
)

// absence waits for a daemon that went away during a call, on behalf of a command
// that makes the call again when it is back.
type absence struct {
	s    *session
	cl   *client
	away func() // told that the waiting begins; nil: a line says so, and another that it is over

	since time.Time // when it was missed first
	told  bool      // that it is away
	back  time.Time // when it answered last after that
}

// over returns nil when the daemon answers again after a call that ended with err,
// so that the call can be repeated, else the error with which to give up: err when
// it is of another kind, the context's, or that the wait was too long.
func (a *absence) over(ctx context.Context, err error) error {
	if interrupted(ctx) || task.CodeOf(err) != task.CodeUnavailable {
		return err
	}
	if a.since.IsZero() || !a.back.IsZero() && a.s.now().Sub(a.back) > settled {
		a.since, a.told = a.s.now(), false
	}
	for {
		if !pause(ctx, reconnectEvery) {
			return ctx.Err()
		}
		err := a.probe(ctx)
		switch {
		case err == nil:
			a.back = a.s.now()
			a.tellBack()
			return nil // it may never have been away: it answers in this way when it is about to leave, or its disk fails
		case interrupted(ctx):
			return ctx.Err()
		case a.s.now().Sub(a.since) > a.s.reconnectFor:
			return task.Errorf(task.CodeUnavailable, "the daemon went away and was not back after %s: %w", span(a.s.reconnectFor), err)
		}
		a.tellAway()
	}
}

// probe asks whether the daemon answers.
func (a *absence) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	_, err := a.cl.Health(ctx, &pb.HealthRequest{})
	return err
}

// tellAway says, once, why nothing comes for a while.
func (a *absence) tellAway() {
	if a.told {
		return
	}
	a.told = true
	if a.away != nil {
		a.away()
		return
	}
	a.s.err.printf("the daemon went away; waiting up to %s for it to come back\n", span(a.s.reconnectFor))
}

func (a *absence) tellBack() {
	if a.told && a.away == nil {
		a.s.err.printf("the daemon is back\n")
	}
}

// pause waits a while; false says that the command was interrupted.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
