package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/metrics"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/queue"
)

// fixture is a server on a real socket over a real queue. What the engine and
// the backends would do, a test does with its methods.
type fixture struct {
	t      testing.TB
	ctx    context.Context
	q      *queue.Queue
	m      *metrics.Metrics
	srv    *api.Server
	out    *outputs
	socket string
	client *api.Client
	pb.OrchestratorServiceClient
	info api.Info
	ill  atomic.Bool  // Info says that it is not healthy
	stop func() error // stops the server and returns what Serve did
}

func setup(tb testing.TB, change ...func(*api.Options)) *fixture {
	tb.Helper()
	return setupKeeping(tb, queue.Retention{}, change...)
}

// setupKeeping is setup with a queue that forgets, when expire is called.
func setupKeeping(tb testing.TB, keep queue.Retention, change ...func(*api.Options)) *fixture {
	tb.Helper()
	dir := shortDir(tb)
	q, m, err := openQueue(tb.Context(), filepath.Join(dir, "queue"), keep)
	if err != nil {
		tb.Fatal(err)
	}
	f := &fixture{t: tb, ctx: tb.Context(), q: q, m: m, out: newOutputs(), socket: filepath.Join(dir, "s")}
	f.info = api.Info{Healthy: true, Version: "1.2.3", Services: map[string]string{"queue": "ok"}, Classes: []api.ClassInfo{{Name: "cpu_short"}}}
	opts := f.options()
	for _, c := range change {
		c(&opts)
	}
	f.serve(opts)
	f.client, err = api.Dial(f.ctx, api.Target{Socket: f.socket, Workspace: "/w"})
	if err != nil {
		tb.Fatal(err)
	}
	f.OrchestratorServiceClient = f.client
	tb.Cleanup(func() {
		_ = f.client.Close()
		if err := f.stop(); err != nil {
			tb.Errorf("serve: %v", err)
		}
		if err := q.Close(); err != nil {
			tb.Errorf("close the queue: %v", err)
		}
	})
	return f
}

// openQueue opens a queue, and makes the numbers that it tells.
func openQueue(ctx context.Context, dir string, keep queue.Retention) (q *queue.Queue, m *metrics.Metrics, err error) {
	m, err = metrics.New(metrics.Options{
		Classes: []string{"cpu_short", "cpu_long"}, Version: "1.2.3",
		Counts:  func() task.Counts { return q.Counts() },
		Machine: func() metrics.Machine { return metrics.Machine{Limit: 4} },
		Paused:  func() map[string]task.Pause { return q.Paused() },
	})
	if err != nil {
		return nil, nil, err
	}
	q, err = queue.Open(ctx, queue.Options{Dir: dir, OnCommit: m.Committed, Retention: keep})
	return q, m, err
}

// shortDir returns a directory whose path fits a socket's.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "api") // t.TempDir has the test's long name in its path
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (f *fixture) options() api.Options {
	return api.Options{
		Queue: queuePort{f.q}, Log: logPort{f.q}, Mover: mover{q: f.q}, Outputs: f.out, Metrics: f.m,
		Pauser: pauser{f.q}, Keeper: keeper{f.q}, Stats: statsOf(f.q),
		Class: classes, Info: f.tell,
		Workspace: "/w", Logger: slog.New(slog.DiscardHandler), StopTimeout: 2 * time.Second,
	}
}

func (f *fixture) tell() api.Info {
	info := f.info
	info.Healthy = info.Healthy && !f.ill.Load()
	info.Classes = slices.Clone(info.Classes)
	for i, k := range info.Classes {
		if p, ok := f.q.Paused()[k.Name]; ok {
			info.Classes[i].Paused = &p
		}
	}
	return info
}

func (f *fixture) serve(opts api.Options) {
	f.t.Helper()
	srv, err := api.New(opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.srv = srv
	lis, err := rpc.ListenUnix(f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.stop = running(srv, lis)
}

// running starts a server and returns how to stop it; it may be stopped twice.
func running(srv *api.Server, lis net.Listener) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, lis) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

func classes(name string) (api.Class, error) {
	switch name {
	case "", "cpu_short":
		return api.Class{Name: "cpu_short"}, nil
	case "cpu_long":
		return api.Class{Name: "cpu_long"}, nil
	case "limited":
		return api.Class{Name: "limited", Timeout: time.Minute}, nil
	case "boxed":
		return api.Class{Name: "boxed", Image: "python:3.12"}, nil
	case "gpu":
		return api.Class{}, task.Errorf(task.CodeUnsupported, "GPUs come later")
	}
	return api.Class{}, task.Errorf(task.CodeInvalid, "unknown class %q; known are cpu_short, cpu_long", name)
}

// submit accepts a task with a command.
func (f *fixture) submit(id string) task.Task {
	f.t.Helper()
	answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{Argv: []string{"true"}}})
	if err != nil || !answer.GetSuccess() {
		f.t.Fatalf("submit %s: %v %v", id, answer, err)
	}
	return f.lookup(answer.GetTaskId())
}

func (f *fixture) lookup(id string) task.Task {
	f.t.Helper()
	t, err := f.q.Lookup(id)
	if err != nil {
		f.t.Fatal(err)
	}
	return t
}

// apply does one step of a task.
func (f *fixture) apply(id string, ev task.Event, result task.Result) {
	f.t.Helper()
	t := f.lookup(id)
	ev.Attempt = t.Attempt()
	if _, err := apply(f.ctx, f.q, task.Change{Seq: t.Seq, Event: ev, Result: result}); err != nil {
		f.t.Fatalf("%s on %s: %v", ev.Kind, id, err)
	}
}

func (f *fixture) begin(id string) {
	f.t.Helper()
	f.apply(id, task.Event{Kind: task.EventPlaced, Backend: "process"}, nil)
	f.apply(id, task.Event{Kind: task.EventLaunched}, nil)
	f.out.add(f.lookup(id).Ref(), "") // the file is there before the program
	f.apply(id, task.Event{Kind: task.EventStarted}, nil)
}

func (f *fixture) end(id string, exit int, result string) {
	f.t.Helper()
	var r task.Result
	if result != "" {
		r = task.Result(result)
	}
	f.apply(id, task.Event{Kind: task.EventExited, Outcome: task.Outcome{ExitCode: exit}}, r)
}

// run takes a task from its submission to its end.
func (f *fixture) run(id string, exit int, result string) {
	f.t.Helper()
	f.submit(id)
	f.begin(id)
	f.end(id, exit, result)
}

// expire has the queue forget what its retention says.
func (f *fixture) expire() {
	f.t.Helper()
	for more := true; more; {
		var err error
		if _, more, err = f.q.Expire(f.ctx, task.At(time.Now())); err != nil {
			f.t.Fatal(err)
		}
	}
}

func apply(ctx context.Context, q *queue.Queue, c task.Change) (task.Task, error) {
	if c.Event.At == 0 {
		c.Event.At = task.At(time.Now())
	}
	got, err := q.Apply(ctx, []task.Change{c})
	if err != nil {
		return task.Task{}, err
	}
	return got[0].Task, got[0].Err
}

type queuePort struct{ *queue.Queue }

func (p queuePort) Submit(ctx context.Context, specs []*task.Spec) ([]api.Accepted, error) {
	got, err := p.Queue.Submit(ctx, specs)
	out := make([]api.Accepted, len(got))
	for i, s := range got {
		out[i] = api.Accepted{Task: s.Task, Existing: s.Existing, Final: s.Final, Err: s.Err}
	}
	return out, err
}

func (p queuePort) Removed(id string) (task.Final, error) {
	_, err := p.Lookup(id)
	if gone, ok := errors.AsType[*queue.RemovedError](err); ok {
		return gone.Final, nil
	}
	return task.Final{}, err
}

type logPort struct{ *queue.Queue }

func (p logPort) Records(from uint64, limit int) ([]task.Record, error) {
	records, err := p.Queue.Records(from, limit)
	if gone, ok := errors.AsType[*queue.TruncatedError](err); ok {
		return p.Queue.Records(gone.First, limit)
	}
	return records, err
}

// mover does what the engine would, for tasks that nothing runs.
type mover struct {
	q     *queue.Queue
	waits map[task.Seq]string
}

func (m mover) Cancel(ctx context.Context, id, by, reason string) (task.Task, error) {
	t, err := m.q.Lookup(id)
	if err != nil {
		return t, err
	}
	if t.State().Terminal() {
		return t, task.Errorf(task.CodeConflict, "task %s has ended", id)
	}
	ev := task.Event{Kind: task.EventCancelAsked, Attempt: t.Attempt(), By: by, Text: reason}
	if t, err = apply(ctx, m.q, task.Change{Seq: t.Seq, Event: ev}); err != nil || t.State() != task.Pending {
		return t, err
	}
	return apply(ctx, m.q, task.Change{Seq: t.Seq, Event: task.Event{Kind: task.EventCancelled, Attempt: t.Attempt()}})
}

func (m mover) Retry(ctx context.Context, id, by string) (task.Task, error) {
	t, err := m.q.Lookup(id)
	if err != nil {
		return t, err
	}
	return apply(ctx, m.q, task.Change{Seq: t.Seq, Event: task.Event{Kind: task.EventRetried, Attempt: t.Attempt(), By: by}})
}

func (m mover) Waits() (map[task.Seq]string, error) { return m.waits, nil }

func (m mover) Explain(_ context.Context, id string) (string, task.Task, error) {
	t, err := m.q.Lookup(id)
	return "it waits for its turn", t, err
}

// pauser does what the engine would, for classes of which nothing is ever started.
type pauser struct{ *queue.Queue }

func (p pauser) PauseClass(ctx context.Context, class, by, reason string) (task.Pause, bool, error) {
	return p.Pause(ctx, class, task.Pause{At: task.At(time.Now()), By: by, Reason: reason})
}

func (p pauser) ResumeClass(ctx context.Context, class, _ string) (task.Pause, bool, error) {
	return p.Resume(ctx, class)
}

// statsOf tells of cpu_short, and of what has tasks.
func statsOf(q *queue.Queue) func() (api.QueueStats, error) {
	return func() (api.QueueStats, error) {
		st, err := q.Stats()
		if err != nil {
			return api.QueueStats{}, err
		}
		oldest, err := q.OldestWaiting()
		out := api.QueueStats{QueueID: q.ID(), Dir: "/q", LastIndex: st.LastIndex, FirstIndex: st.FirstIndex, FileBytes: st.DBBytes, MaxWaiting: st.MaxWaiting, Window: time.Minute}
		for _, name := range []string{"cpu_short", "cpu_long"} {
			k := api.ClassStats{
				Name: name, Parallel: 3, States: st.Counts[name], Waiting: q.Waiting()[name], Oldest: oldest[name],
				Recent: api.Recent{Started: 5, Ended: 4, WaitP50: time.Second, WaitP95: 2 * time.Second},
			}
			if p, ok := q.Paused()[name]; ok {
				k.Paused = &p
			}
			out.Classes = append(out.Classes, k)
		}
		return out, err
	}
}

// outputs keeps what tasks print in memory.
type outputs struct {
	mu    sync.Mutex
	text  map[task.Ref]*bytes.Buffer
	grown chan struct{} // closed and replaced when something was printed
	open  int
	apart bool // a capital letter is of the standard error, all else of the output
}

func newOutputs() *outputs {
	return &outputs{text: map[task.Ref]*bytes.Buffer{}, grown: make(chan struct{})}
}

func (o *outputs) add(ref task.Ref, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text[ref] == nil {
		o.text[ref] = &bytes.Buffer{}
	}
	o.text[ref].WriteString(text)
	close(o.grown)
	o.grown = make(chan struct{})
}

func (o *outputs) now(ref task.Ref) ([]byte, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b := o.text[ref]; b != nil {
		return bytes.Clone(b.Bytes()), o.grown
	}
	return nil, o.grown
}

func (o *outputs) Path(t task.Task, attempt int) string {
	return filepath.Join("/out", t.Spec.ID, string(rune('0'+attempt)))
}

func (o *outputs) Open(t task.Task, attempt int) (api.Output, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ref := task.Ref{Seq: t.Seq, Attempt: attempt}
	if o.text[ref] == nil {
		return nil, task.Errorf(task.CodeNotFound, "no output")
	}
	o.open++
	return &output{o, ref}, nil
}

type output struct {
	all *outputs
	ref task.Ref
}

func (o *output) Read(p []byte, offset int64) (int, int64, error) {
	data, _ := o.all.now(o.ref)
	n, err := bytes.NewReader(data).ReadAt(p, offset)
	return n, offset + int64(n), err
}

func (o *output) Stream(offset int64) (string, int64, error) {
	data, _ := o.all.now(o.ref)
	if !o.all.apart || offset >= int64(len(data)) {
		return "output", math.MaxInt64, nil
	}
	names := map[bool]string{false: "stdout", true: "stderr"}
	capital := func(at int64) bool { return data[at] >= 'A' && data[at] <= 'Z' }
	for at := offset; at < int64(len(data)); at++ {
		if capital(at) != capital(offset) {
			return names[capital(offset)], at, nil
		}
	}
	return names[capital(offset)], math.MaxInt64, nil
}

func (o *output) TailOffset(lines int) (int64, error) {
	data, _ := o.all.now(o.ref)
	at := len(data)
	for ; lines > 0 && at > 0; lines-- {
		at = bytes.LastIndexByte(data[:at-1], '\n') + 1
	}
	return int64(at), nil
}

func (o *output) Wait(ctx context.Context, offset int64) error {
	for {
		data, grown := o.all.now(o.ref)
		if int64(len(data)) > offset {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *output) Close() error {
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	o.all.open--
	return nil
}

// recv receives one message, within the time of the test.
func recv[T any](tb testing.TB, s interface{ Recv() (*T, error) }) *T {
	tb.Helper()
	m, err := s.Recv()
	if err != nil {
		tb.Fatalf("receive: %v", err)
	}
	return m
}

// wantEOF says that a stream must have ended well.
func wantEOF[T any](tb testing.TB, s interface{ Recv() (*T, error) }) {
	tb.Helper()
	if m, err := s.Recv(); !errors.Is(err, io.EOF) {
		tb.Fatalf("got %v, %v; want the end of the stream", m, err)
	}
}

// wantCode says which code an error must have.
func wantCode(tb testing.TB, err error, want task.Code) {
	tb.Helper()
	if err == nil || task.CodeOf(err) != want {
		tb.Fatalf("got error %v (%s), want %s", err, task.CodeOf(err), want)
	}
}

// wantWords says what the message for the user must contain.
func wantWords(tb testing.TB, err error, words string) {
	tb.Helper()
	var e *task.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, words) {
		tb.Errorf("%v does not say %q", err, words)
	}
}
