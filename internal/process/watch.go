package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Pauses between attempts to reach the supervisor.
const (
	retryFirst = 20 * time.Millisecond
	retryLast  = 10 * time.Second
	// startPatience is how long a supervisor that was started may take to listen, and
	// startPause the longest time until it is started once more.
	startPatience = 5 * time.Second
	startPause    = 500 * time.Millisecond
)

// Watch keeps the connection to the supervisor, starting one when there is none,
// and reports what it says.
func (b *Backend) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	b.learn(active)
	var one sync.Mutex // the sink takes one call at a time
	deliver := func(changes []task.Change) {
		one.Lock()
		defer one.Unlock()
		sink(changes)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.tellEchoes(ctx, deliver) })
	wg.Go(func() { b.tellUnread(ctx, deliver) })
	wg.Go(func() { b.sweepFiles(ctx) })
	wg.Go(func() { b.giveLate(ctx) })
	wg.Go(func() { b.lookout(ctx, deliver) })
	pause := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		ss, err := b.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			b.opts.Logger.Warn("process supervisor", "error", err)
			b.unreached(err, began)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, retryLast)
			continue
		}
		pause = retryFirst
		b.follow(ctx, ss, deliver)
	}
	b.setSession(nil, "the backend has stopped")
	return nil
}

// learn takes over what the queue says of attempts that have not ended.
func (b *Backend) learn(active []task.Task) {
	b.mu.Lock()
	for _, t := range active {
		ref := t.Ref()
		switch h, ok := decodeHandle(t.Status().Handle); {
		case ok && b.far(h):
			b.distant[ref] = newDistant(t, h)
			b.told[ref] = toldOf(t.State())
		case !begun(t) && t.Spec.Builtin == "":
			b.inherited[ref], b.heirs[ref] = &inheritance{task: t}, true
			fallthrough
		default:
			b.active[ref] = t
			b.knowTask(t)
		}
		if _, stopped := b.stops[ref]; stopped && (b.distant[ref] != nil || b.inherited[ref] != nil) {
			delete(b.stops, ref) // before we knew where to say so
			b.noteStopElsewhere(t)
		}
	}
	early := b.early
	b.learned, b.early = true, nil
	b.mu.Unlock()
	if err := b.Launch(context.Background(), early); err != nil {
		for _, t := range early {
			b.refuse(t, err)
		}
	}
}

// unreached notes why there is no connection.
func (b *Backend) unreached(err error, began time.Time) {
	if e, ok := errors.AsType[*silentError](err); ok {
		b.setSilent(e.pid, began)
		return
	}
	b.setSession(nil, err.Error())
}

// hello is the first message of a connection.
func (b *Backend) hello() *supervisorpb.Hello {
	b.mu.Lock()
	defer b.mu.Unlock()
	former := make([][]byte, len(b.former))
	for i, dir := range b.former {
		former[i] = []byte(dir)
	}
	return &supervisorpb.Hello{
		MinVersion: minVersion, MaxVersion: maxVersion, QueueId: b.opts.QueueID, SpoolDir: []byte(b.spool),
		LogCap: uint64(b.opts.LogCap), Nice: int32(b.opts.Nice),
		Known: b.knownOf(slices.Collect(maps.Keys(b.procs))), FormerSpools: former,
	}
}

// connect reaches the supervisor, starting it if it does not run.
func (b *Backend) connect(ctx context.Context) (*session, error) {
	path := filepath.Join(b.opts.RuntimeDir, socketName)
	hello := b.hello()
	// The supervisor that has this queue's running tasks comes first. It may have
	// been started with another runtime directory than ours.
	if other := announced(b.spool); other != "" && other != path {
		if ss, err := openSession(other, hello); err == nil || isSilent(err) {
			return ss, err
		}
	}
	ss, err := openSession(path, hello)
	if err == nil || errors.Is(err, errRefused) || errors.Is(err, errStranger) || isSilent(err) {
		return ss, err
	}
	return b.begin(ctx, path, hello)
}

// begin starts the supervisor and connects to it. Another may be in the way for a
// moment: one that somebody else is just starting has the lock already, and the
// socket soon; one that leaves has closed the socket, and has the lock still. So it
// is tried again until there is one that listens.
func (b *Backend) begin(ctx context.Context, path string, hello *supervisorpb.Hello) (*session, error) {
	f := supervisorFlags{runtimeDir: b.opts.RuntimeDir, logFile: defaultLog(b.opts.RuntimeDir), idle: b.opts.Idle, noCgroups: b.opts.NoCgroups}
	late := time.After(startPatience)
	for pause := retryFirst; ; pause = min(2*pause, startPause) {
		if err := startSupervisor(ctx, b.opts.Exe, f); err != nil {
			return nil, err
		}
		ss, err := openSession(path, hello)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			return ss, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late:
			return nil, b.lockedOut(err)
		case <-time.After(pause):
		}
	}
}

// lockedOut says who keeps a supervisor from being started.
func (b *Backend) lockedOut(err error) error {
	pid := host.Holder(filepath.Join(b.opts.RuntimeDir, lockName))
	if pid == 0 {
		return err
	}
	return fmt.Errorf("the process supervisor (pid %d) does not listen, and no other can start before it has ended: "+
		"it is leaving, or is held up by a file system; if that lasts, kill -KILL %d, and running tasks go on: %w", pid, pid, err)
}

func isSilent(err error) bool {
	_, ok := errors.AsType[*silentError](err)
	return ok
}

// tellEchoes reports what needs no supervisor. It does not depend on a
// connection: one that breaks does not wait for a sink that is full.
func (b *Backend) tellEchoes(ctx context.Context, deliver func([]task.Change)) {
	for {
		if changes := b.takeEchoes(); len(changes) > 0 {
			deliver(changes)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
	}
}

func (b *Backend) takeEchoes() []task.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.echoes
	b.echoes = nil
	return out
}
