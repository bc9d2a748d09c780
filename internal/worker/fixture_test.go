package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// fakeOwner hands out what a test puts there, and keeps what is reported.
type fakeOwner struct {
	mu       sync.Mutex
	news     chan struct{}
	grants   []lease.Grant
	orders   lease.Orders
	err      error // of all calls
	reports  []lease.Report
	complete func(reports []lease.Report) (settled []task.Ref, err error) // nil = all that has ended or comes back is settled
}

func newOwner() *fakeOwner { return &fakeOwner{news: make(chan struct{})} }

func (o *fakeOwner) set(f func(o *fakeOwner)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(o)
	close(o.news)
	o.news = make(chan struct{})
}

// await waits until something is there, or for so long.
func (o *fakeOwner) await(ctx context.Context, wait time.Duration, there func() bool) error {
	late := time.After(wait)
	for {
		o.mu.Lock()
		ok, err, news := there(), o.err, o.news
		o.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return nil
		case <-news:
		}
	}
}

func (o *fakeOwner) Lease(ctx context.Context, w lease.Want) (g lease.Grant, err error) {
	err = o.await(ctx, w.Wait, func() bool {
		if len(o.grants) == 0 || o.err != nil {
			return false
		}
		g, o.grants = o.grants[0], o.grants[1:]
		return true
	})
	return g, err
}

func (o *fakeOwner) Extend(ctx context.Context, h lease.Hold) (lease.Orders, error) {
	err := o.await(ctx, h.Wait, func() bool { return o.orders.Serial != h.Seen })
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.orders, err
}

func (o *fakeOwner) Complete(_ context.Context, _ string, reports []lease.Report) (settled []task.Ref, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return nil, o.err
	}
	o.reports = append(o.reports, reports...)
	if o.complete != nil {
		return o.complete(reports)
	}
	return over(reports), nil
}

// over are those of which nothing has to be kept.
func over(reports []lease.Report) (out []task.Ref) {
	for _, r := range reports {
		if n := len(r.Changes); r.Returned || n > 0 && r.Changes[n-1].Event.Kind.Ends() {
			out = append(out, r.Ref)
		}
	}
	return out
}

// last returns the last report about each attempt.
func (o *fakeOwner) last() map[task.Seq]lease.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[task.Seq]lease.Report{}
	for _, r := range o.reports {
		out[r.Ref.Seq] = r
	}
	return out
}

// fakeRunner has attempts run until it is told that they end.
type fakeRunner struct {
	mu        sync.Mutex
	sink      func([]task.Change)
	runs      map[task.Seq]task.Task
	begun     []task.Seq
	forgotten []task.Ref
	stubborn  bool // Stop does nothing
	at        time.Duration
	err       error
}

func newRunner() *fakeRunner { return &fakeRunner{runs: map[task.Seq]task.Task{}} }

func (r *fakeRunner) Watch(ctx context.Context, _ []task.Task, sink func([]task.Change)) error {
	r.mu.Lock()
	r.sink = sink
	r.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Launch has attempts run, for so long if at says how long.
func (r *fakeRunner) Launch(_ context.Context, tasks []task.Task) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	for _, t := range tasks {
		r.runs[t.Seq] = t
		r.begun = append(r.begun, t.Seq)
		if r.at > 0 {
			time.AfterFunc(r.at, func() { r.end(t.Seq, task.Event{Kind: task.EventExited, Unprompted: true}) })
		}
	}
	return nil
}

func (r *fakeRunner) Stop(_ context.Context, t task.Task) error {
	r.mu.Lock()
	stubborn := r.stubborn
	r.mu.Unlock()
	if !stubborn {
		r.end(t.Seq, task.Event{Kind: task.EventStopped})
	}
	return nil
}

func (r *fakeRunner) Forget(_ context.Context, refs []task.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten = append(r.forgotten, refs...)
	return nil
}

// end reports the end of an attempt that runs.
func (r *fakeRunner) end(seq task.Seq, ev task.Event) {
	r.mu.Lock()
	t, ok := r.runs[seq]
	delete(r.runs, seq)
	sink := r.sink
	r.mu.Unlock()
	if ok {
		ev.Attempt = t.Attempt()
		sink([]task.Change{{Seq: seq, Event: task.Event{Kind: task.EventStarted, Attempt: t.Attempt()}}, {Seq: seq, Event: ev}})
	}
}

func (r *fakeRunner) running() (out []task.Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq := range r.runs {
		out = append(out, seq)
	}
	slices.Sort(out)
	return out
}

// options are those of a worker with fakes for all that is not its own.
func options(t testing.TB, cpus int) (Options, *fakeOwner, *fakeRunner) {
	t.Helper()
	f := lease.FolderOf(t.TempDir(), "worker12345678")
	if err := f.Make(lease.Card{}); err != nil {
		t.Fatal(err)
	}
	o, r := newOwner(), newRunner()
	return Options{Folder: f, Owner: o, Runner: r, Logger: slog.New(slog.DiscardHandler), CPUMilli: int64(cpus) * 1000}, o, r
}

// idleWorker is one whose loops do not run.
func idleWorker(t testing.TB, o Options) *worker {
	t.Helper()
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	return newWorker(o)
}

// plain makes tasks that take a CPU each.
func plain(t testing.TB, first, n int) (out []task.Task) {
	t.Helper()
	for i := range n {
		out = append(out, taskOf(t, first+i, task.Resources{}))
	}
	return out
}

func taskOf(t testing.TB, seq int, r task.Resources) task.Task {
	t.Helper()
	k, err := task.Assign(task.Ref{Seq: task.Seq(seq), Attempt: 1}, &task.Spec{ID: fmt.Sprint("t", seq), Argv: []string{"true"}, Resources: r})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// run runs a worker until the test ends, or stop is called.
func run(t testing.TB, o Options) (stop context.CancelFunc, done chan Summary) {
	ctx, cancel := context.WithCancel(context.Background())
	done = make(chan Summary, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		s, err := Run(ctx, o)
		if err != nil {
			t.Error(err)
		}
		done <- s
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	return cancel, done
}
