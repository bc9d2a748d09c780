package process

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Pauses between attempts to reach the supervisor.
const (
	retryFirst = 20 * time.Millisecond
	retryLast  = 10 * time.Second
	// startPatience is how long a supervisor that was started may take to listen.
	startPatience = 5 * time.Second
)

// Watch keeps the connection to the supervisor, starting one when there is none,
// and reports what it says.
func (b *Backend) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	b.mu.Lock()
	for _, t := range active {
		b.active[t.Ref()] = t
	}
	b.mu.Unlock()
	var one sync.Mutex // the sink takes one call at a time
	deliver := func(changes []task.Change) {
		one.Lock()
		defer one.Unlock()
		sink(changes)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.tellEchoes(ctx, deliver) })
	pause := retryFirst
	for ctx.Err() == nil {
		ss, err := b.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			b.opts.Logger.Warn("process supervisor", "error", err)
			b.setSession(nil, err.Error())
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

// connect reaches the supervisor, starting it if it does not run.
func (b *Backend) connect(ctx context.Context) (*session, error) {
	path := filepath.Join(b.opts.RuntimeDir, socketName)
	hello := &supervisorpb.Hello{
		MinVersion: minVersion, MaxVersion: maxVersion, QueueId: b.opts.QueueID, SpoolDir: []byte(b.spool),
		LogCap: uint64(b.opts.LogCap), Nice: int32(b.opts.Nice),
	}
	// The supervisor that has this queue's running tasks comes first. It may have
	// been started with another runtime directory than ours.
	if other := announced(b.spool); other != "" && other != path {
		if ss, err := openSession(other, hello); err == nil {
			return ss, nil
		}
	}
	ss, err := openSession(path, hello)
	if err == nil || errors.Is(err, errRefused) || errors.Is(err, errStranger) || errors.Is(err, errSilent) {
		return ss, err
	}
	f := supervisorFlags{runtimeDir: b.opts.RuntimeDir, logFile: defaultLog(b.opts.RuntimeDir), idle: b.opts.Idle, noCgroups: b.opts.NoCgroups}
	if err := startSupervisor(ctx, b.opts.Exe, f); err != nil {
		return nil, err
	}
	return awaitSession(ctx, path, hello)
}

// awaitSession connects to a supervisor that somebody else may just be
// starting: it has the lock already, and the socket in a moment.
func awaitSession(ctx context.Context, path string, hello *supervisorpb.Hello) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		ss, err := openSession(path, hello)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			return ss, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryFirst):
		}
	}
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

// follow uses one connection until it breaks or ctx ends.
func (b *Backend) follow(ctx context.Context, ss *session, deliver func([]task.Change)) {
	unhook := context.AfterFunc(ctx, ss.leave)
	defer unhook()
	defer ss.nc.Close() //nolint:errcheck // nothing is lost: the supervisor keeps what it has to tell
	err := b.handOver(ss)
	defer b.setSession(nil, "")
	if err != nil {
		b.opts.Logger.Warn("process supervisor", "error", err)
		return
	}
	deliver(nil)                 // says nothing, but has the engine see that Down is over
	known := map[task.Ref]bool{} // nil after the snapshot
	for {
		m, err := ss.receive()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				b.opts.Logger.Warn("process supervisor", "error", err)
			}
			return
		}
		reports := m.GetReports()
		if reports == nil {
			continue // of a newer supervisor; nothing that we need
		}
		changes := b.take(ss, reports, known)
		if reports.GetSnapshotDone() && known != nil {
			changes = append(changes, b.missing(ss, known)...)
			known = nil
		}
		if len(changes) > 0 {
			deliver(changes)
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

// take turns reports into changes.
func (b *Backend) take(ss *session, reports *supervisorpb.Reports, known map[task.Ref]bool) []task.Change {
	changes := make([]task.Change, 0, 3*len(reports.GetReports()))
	for _, r := range reports.GetReports() {
		ref := refOf(r.GetName())
		if known != nil {
			known[ref] = true
		}
		b.mu.Lock()
		before := b.told[ref]
		b.mu.Unlock()
		var after told
		changes, after = b.changes(changes, ss, r, before)
		b.mu.Lock()
		if r.GetPhase() != supervisorpb.Report_PHASE_QUEUED {
			delete(b.given, ref)
			delete(b.envs, ref)
			b.told[ref] = after
		}
		if after == toldEnd {
			delete(b.stops, ref)
		}
		b.mu.Unlock()
	}
	return changes
}

// missing says which attempts the supervisor should know and does not.
func (b *Backend) missing(ss *session, known map[task.Ref]bool) []task.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []task.Change
	at := task.At(b.opts.Now())
	for ref, t := range b.active {
		delete(b.active, ref)
		if known[ref] || t.State() < task.Starting || b.elsewhere(t) {
			continue
		}
		b.told[ref] = toldEnd
		out = append(out, lost(t, at, ss.host, ss.boot))
	}
	// Those that an earlier supervisor told of, and whose journal is gone with it.
	for ref, told := range b.told {
		if known[ref] || told == toldEnd || told == toldNothing {
			continue
		}
		b.told[ref] = toldEnd
		out = append(out, lostRef(ref, at, ss.host))
	}
	return out
}

// elsewhere says whether the attempt runs on another host, of which nothing can
// be said from here.
func (b *Backend) elsewhere(t task.Task) bool {
	h, ok := decodeHandle(t.Status().Handle)
	return ok && h.Host != b.host
}

func byAge(x, y task.Ref) int {
	return cmp.Or(cmp.Compare(x.Seq, y.Seq), cmp.Compare(x.Attempt, y.Attempt))
}

// handOver makes this the connection, and tells it first what the one before it
// may have taken along, or what came when there was none: sizes of pools,
// attempts that had not begun, stops. Whoever finds the connection now waits for
// the mutex of writing until that is said.
func (b *Backend) handOver(ss *session) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, m := range b.adopt(ss) {
		if err := ss.write(m, sendPatience); err != nil {
			return err
		}
	}
	return nil
}

// adopt makes this the connection and returns what it has to be told. Both are
// one step, so that nothing falls between.
func (b *Backend) adopt(ss *session) []*supervisorpb.ToSupervisor {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.down = ss, ""
	b.once.Do(func() { close(b.first) })
	var out []*supervisorpb.ToSupervisor
	if len(b.limits) > 0 {
		out = append(out, limitMessage(maps.Clone(b.limits)))
	}
	batch := &batch{}
	for _, ref := range slices.SortedFunc(maps.Keys(b.given), byAge) {
		// A copy, since a Launch may be writing that one to the old connection.
		batch.add(proto.CloneOf(b.given[ref]), b.envs[ref])
	}
	out = append(out, batch.messages()...)
	if len(b.stops) > 0 {
		out = append(out, stopMessage(slices.Collect(maps.Keys(b.stops))...))
	}
	return out
}
