package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// need is what a command needs of whoever has the queue.
type need int

const (
	// needsDaemon: somebody who runs tasks, since the command waits for what becomes of
	// them.
	needsDaemon need = iota
	// reads: where no daemon runs, the command opens the queue itself, for reading.
	reads
	// writes: the same for writing, for the one call.
	writes
	// creates: the same, and the queue is made if there is none.
	creates
)

// open returns a connection to the workspace's daemon or, where none runs, to its queue
// itself, if that will do. Others may be at it, too: each has it for a moment, so that
// only one who keeps it is an obstacle.
func (s *session) open(ctx context.Context, cfg config.Config, n need, raw bool) (cl *client, err error) {
	err = s.patiently(ctx, s.patienceWith(ctx, cfg), func() error {
		var none error
		cl, none = s.dial(ctx, cfg, raw)
		switch {
		case cfg.GRPCAddr != "" && none != nil:
			return addressNoted(cfg, none)
		case !errors.Is(none, api.ErrNoDaemon):
			return none
		case n != creates && isFolder(cfg.Workspace) && !app.QueuePresent(cfg.QueueDir):
			return s.noQueueHere(ctx, cfg, none)
		case n == needsDaemon, s.mistaken:
			return noneHere(cfg, none)
		}
		if err := openable(cfg, none); err != nil {
			return err
		}
		cl, err = s.openQueue(ctx, cfg, n, raw)
		return err
	})
	if busy, ok := errors.AsType[*app.BusyError](err); ok {
		err = unavailable(cfg, busy)
	}
	return cl, err
}

// openable says why the queue cannot be opened without a daemon; none is the error that
// there is no daemon.
func openable(cfg config.Config, none error) error {
	if _, gone := os.Stat(cfg.Workspace); gone != nil {
		return none
	}
	return app.QueueOwned(cfg.QueueDir) // as at the socket
}

// openQueue opens the queue in this process, and returns a connection to that.
func (s *session) openQueue(ctx context.Context, cfg config.Config, n need, raw bool) (*client, error) {
	opened, err := app.OpenUnattended(ctx, app.UnattendedOptions{Config: cfg, Write: n != reads, LockTimeout: lockLook, Watches: s.tellWatch, Nobody: nobody(cfg)})
	if err != nil {
		return nil, err
	}
	c, err := api.Dial(ctx, api.Target{Conn: opened.Conn(), Workspace: cfg.Workspace})
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	cl := newClient(cfg, c, raw)
	cl.nobody = nobody(cfg)
	cl.close = func() error { return errors.Join(c.Close(), opened.Close()) }
	if n == reads {
		release := s.out.hold()
		cl.close = func() error {
			defer release()
			return errors.Join(c.Close(), opened.Close())
		}
		s.noteElsewhere(cfg)
	}
	return cl, nil
}

// nobody says that no daemon runs, and what to type. One on another host may run as long
// as it shows that it is alive.
func nobody(cfg config.Config) string {
	if o := ownerElsewhere(cfg); o != nil {
		return fmt.Sprintf("the queue belongs to %s%s; look there, or, if that host is gone for good: %s --take-over", oneLine(o.String()), silence(cfg), startHint(cfg))
	}
	return fmt.Sprintf("%s for %s; start one with: %s, or run once what waits with: %s drain %s", api.ErrNoDaemon, cfg, startHint(cfg), Program, pasteable(cfg.Args()))
}

// silentAfter is for how long an owner on another host may say nothing before people are
// told. Clients of file servers may show what is a minute old.
const silentAfter = 2 * time.Minute

// silence says since when nothing was heard of the queue's owner; "" = it is heard.
func silence(cfg config.Config) string {
	at, now := app.OwnerHeard(cfg.QueueDir), time.Now()
	if at.IsZero() || now.Sub(at) < silentAfter {
		return ""
	}
	return fmt.Sprintf(", of which nothing was heard since %s (%s)", clock(at.UnixNano()), ago(at.UnixNano(), now))
}

// unattended says whether nobody runs tasks: the queue is open in this process.
func (c *client) unattended() bool { return c.nobody != "" }

// errNone is the error that no daemon runs.
func (c *client) errNone() error {
	return &task.Error{Code: task.CodeUnavailable, Message: c.nobody, Err: api.ErrNoDaemon}
}

// errNobody is the error of a command that would have to wait for something that does
// not happen. what names it: "task x does not end".
func (c *client) errNobody(what string) error {
	return &task.Error{Code: task.CodeUnavailable, Message: what + ": " + c.nobody, Err: api.ErrNoDaemon}
}

// remind says, once in a command, that what was asked for is on disk and not done
// before somebody does it. what is the beginning of the sentence.
func (s *session) remind(cl *client, what string) {
	if cl.unattended() {
		cl.reminder.Do(func() { s.err.printf("note: %s: %s\n", what, cl.nobody) })
	}
}

// errNotEnded is the error of a wait for tasks that nobody runs; nil where they have all
// ended.
func (c *client) errNotEnded(tasks []*pb.TaskInfo) error {
	if !c.unattended() {
		return nil
	}
	for _, t := range tasks {
		if !ended(t) {
			return c.errNobody(fmt.Sprintf("task %s is %s and cannot be waited for", t.GetId(), t.GetState()))
		}
	}
	return nil
}

// elsewhereError is returned where the queue belongs to a process of another host, which
// cannot be called from here. It is the place for what can be done all the same.
type elsewhereError struct {
	owner app.Owner
	queue string // its folder
	start string // the command that starts a daemon here
	quiet string // since when nothing was heard of it, as the rest of a sentence
	err   error
}

// Error says who, where, and what to do.
func (e *elsewhereError) Error() string {
	return fmt.Sprintf("the queue in %s belongs to pid %d on host %s, since %s%s, and that cannot be called from here; run the command there, or stop it there first. If that host is gone for good: %s --take-over",
		e.queue, e.owner.PID, oneLine(e.owner.Host), stamp(e.owner.StartedAt.UnixNano()), e.quiet, e.start)
}

// Unwrap returns the error of the attempt to open the queue.
func (e *elsewhereError) Unwrap() error { return e.err }

// noneHere is the error that no daemon was found, for what cannot be done without one:
// the one that there is may be on another host.
func noneHere(cfg config.Config, none error) error {
	if o := ownerElsewhere(cfg); o != nil && app.HolderPID(cfg.QueueDir) == 0 {
		return elsewhere(cfg, o, none)
	}
	return none
}

// elsewhere is the error for a queue whose owner is on another host.
func elsewhere(cfg config.Config, o *app.Owner, err error) error {
	return task.Errorf(task.CodeUnavailable, "%w", &elsewhereError{owner: *o, queue: oneLine(cfg.QueueDir), start: startHint(cfg), quiet: silence(cfg), err: err})
}

// unavailable is the error for a queue that somebody keeps.
func unavailable(cfg config.Config, busy *app.BusyError) error {
	if o := ownerElsewhere(cfg); o != nil && (busy.Holder.PID == 0 || busy.Holder.Host == o.Host) {
		return elsewhere(cfg, o, busy)
	}
	if busy.Holder.Suspended {
		return task.Errorf(task.CodeUnavailable, "%w; it is suspended: kill -CONT %d lets it go on, and %s stop says whether a daemon runs", busy, busy.Holder.PID, Program)
	}
	return task.Errorf(task.CodeUnavailable, "%w; %s stop says whether one runs", busy, Program)
}

// ownerElsewhere returns who says to have the queue from another host; nil if nobody.
func ownerElsewhere(cfg config.Config) *app.Owner {
	o, err := app.WhoOwns(cfg.QueueDir)
	if err != nil || o == nil {
		return nil
	}
	here, err := host.This()
	if err != nil || here.Boot == o.BootID || here.Name == o.Host {
		return nil
	}
	return o
}

// noteElsewhere says whose queue is shown.
func (s *session) noteElsewhere(cfg config.Config) {
	if o := ownerElsewhere(cfg); o != nil {
		s.err.printf("note: the queue belongs to pid %d on host %s, since %s%s; this is how it was written last\n",
			o.PID, oneLine(o.Host), stamp(o.StartedAt.UnixNano()), silence(cfg))
	}
}
