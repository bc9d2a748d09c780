package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// UnattendedOptions are what OpenUnattended needs.
type UnattendedOptions struct {
	Config config.Config
	// Write opens the queue for writing, and makes it if there is none. Without it
	// nothing on disk changes, and others may read at the same time.
	Write bool
	// LockTimeout is how long to wait for whoever has the queue; 0 = the queue's own
	// time.
	LockTimeout time.Duration
	// Watches is told who is being looked for, where the former owner of the queue may be
	// alive, and every other second for how long that goes on; o is nil where that one
	// cannot be named. nil = nobody is told.
	Watches func(o *Owner, left time.Duration)
	// Nobody is what a task is said to wait for: that nobody runs the queue, and what to do.
	Nobody string
}

// Unattended is the queue of a workspace that nobody runs, open in this process for
// one command. It answers calls as the daemon would, with the same server over the
// same queue and engine, on a single connection. Nothing is started, and what is to be
// stopped is only written down, for the next owner.
type Unattended struct {
	app  App
	conn net.Conn
}

// OpenUnattended opens the queue and begins to serve. The error is a BusyError when
// somebody else has the queue. Killing the process at any moment does no harm: the
// lock ends with it, and what was answered is on disk.
func OpenUnattended(ctx context.Context, o UnattendedOptions) (*Unattended, error) {
	// What goes wrong is told to whoever calls; the log is the daemon's.
	log := slog.New(slog.DiscardHandler)
	u := &Unattended{app: App{
		conf: o.Config, capacity: capacityOf(o.Config), log: log, started: time.Now(), down: teardown{log: log}, parts: newParts(),
	}}
	if err := u.build(ctx, o); err != nil {
		return nil, errors.Join(err, u.app.down.run())
	}
	return u, nil
}

// Conn is the connection on which calls are answered, for api.Target.
func (u *Unattended) Conn() net.Conn { return u.conn }

// Close ends the connection, waits for what calls have begun, and lets go of the queue.
func (u *Unattended) Close() error { return u.app.down.run() }

func (u *Unattended) build(ctx context.Context, o UnattendedOptions) (err error) {
	a := &u.app
	if a.metrics, err = a.newMetrics(); err != nil {
		return err
	}
	if o.Write && withinLogs(o.Config) {
		if err := MakeLogFolder(o.Config); err != nil {
			return err
		}
	}
	opts := a.queueOptions()
	opts.Role, opts.ReadOnly, opts.LockTimeout, opts.OnWatch = queue.RoleCommand, !o.Write, o.LockTimeout, o.Watches
	if a.queue, err = queue.Open(ctx, opts); err != nil {
		return busy(err)
	}
	a.down.push("queue", func(context.Context) error { return a.queue.Close() })
	if err := u.moveOrObserve(o.Write, o.Nobody); err != nil {
		return err
	}
	if err := a.newServer(unattendedMover{moverPort{a.engine, a.queue}, o.Nobody}, true); err != nil {
		return err
	}
	conn, lis, err := rpc.Pair()
	if err != nil {
		return err
	}
	u.conn = conn
	a.run("calls", func(ctx context.Context) error { return a.server.Serve(ctx, lis) })
	a.down.push("connection", func(context.Context) error { // first: the server waits for one that says nothing
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) { // the client closes it as a rule
			return err
		}
		return nil
	})
	return nil
}

// moveOrObserve sets up the engine: to carry out what is asked of it, or where nothing
// may be written only to explain.
func (u *Unattended) moveOrObserve(write bool, nobody string) error {
	a := &u.app
	if !write {
		if err := a.newEngine(restingAll("")...); err != nil {
			return err
		}
		return a.engine.Observe()
	}
	if err := a.newEngine(restingAll(nobody)...); err != nil {
		return err
	}
	a.run("engine", a.engine.Run)
	return nil
}

// unattendedMover says of tasks that have not ended that nobody moves them.
type unattendedMover struct {
	moverPort
	nobody string
}

// Explain puts first what a task really waits for.
func (m unattendedMover) Explain(ctx context.Context, id string) (string, task.Task, error) {
	why, t, err := m.moverPort.Explain(ctx, id)
	switch {
	case err != nil || t.State().Terminal():
		return why, t, err
	case t.Status().Held != "": // which nobody who runs tasks changes
		return fmt.Sprintf("%s, and then it waits for somebody to run it: %s", why, m.nobody), t, nil
	case t.State() == task.Pending:
		return fmt.Sprintf("waiting for somebody to run it: %s; then: %s", m.nobody, why), t, nil
	default:
		return fmt.Sprintf("%s, as was known last: %s", why, m.nobody), t, nil
	}
}

// Waits says nothing: they all wait for somebody to run them.
func (m unattendedMover) Waits() (map[task.Seq]string, error) { return nil, nil }

// Holder tells one opening of a queue from all others.
type Holder struct {
	Host  string // "" = not known
	PID   int    // 0 = not known
	Fence uint64 // of an opening for writing
	// Command says that it has the queue for one call, however long that takes.
	Command bool
	// Elsewhere says that it is not under this kernel, where nothing tells whether it works.
	Elsewhere bool
	// Suspended says that it is on this host, and stopped by a signal (Ctrl-Z, SIGSTOP).
	Suspended bool
	// Nameless says that it is on this host and has not said who it is: it is about to,
	// and may look for a former owner first, or it only reads.
	Nameless bool
	// Written is when the queue was written last, as it is by every opening for writing.
	// It tells apart those who have not said yet who they are, and is zero for all others:
	// on a file server our own tries would change what can be seen of the folder.
	Written time.Time
}

// BusyError is returned by OpenUnattended, and by a Care, when somebody else has the queue
// open.
type BusyError struct {
	Holder Holder
	Err    error // the queue's
}

// Error names the holder.
func (e *BusyError) Error() string { return e.Err.Error() }

// Unwrap returns what the queue said.
func (e *BusyError) Unwrap() error { return e.Err }

// Suspended says whether the process of a pid of this host is stopped by a signal.
func Suspended(pid int) bool {
	st, err := host.ReadStat(pid)
	return err == nil && st.Suspended()
}

// BusyOf returns what an error of Worthwhile or Drain says about who has the queue.
func BusyOf(err error) (*BusyError, bool) { return errors.AsType[*BusyError](busy(err)) }

// busy makes a BusyError of an error that is about the lock.
func busy(err error) error {
	locked, ok := errors.AsType[*queue.LockedError](err)
	if !ok {
		return err
	}
	h := Holder{PID: locked.PID}
	if o := locked.Owner; o != nil {
		boot, err := host.BootID()
		h = Holder{Host: o.Host, PID: o.PID, Fence: o.Fence, Command: o.Role == queue.RoleCommand, Elsewhere: err == nil && boot != o.BootID,
			Suspended: host.Process{PID: o.PID, Start: o.StartTicks, Boot: o.BootID}.Suspended()}
	}
	switch {
	case h.PID == 0:
		h.Written = queue.Written(locked.Dir)
	case locked.Owner == nil:
		h.Nameless, h.Suspended = true, Suspended(h.PID)
	}
	return &BusyError{Holder: h, Err: err}
}
