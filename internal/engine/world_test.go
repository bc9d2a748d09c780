package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// world is an engine over the real queue and backends that are Fakes, in a
// synctest bubble: time passes only when nothing is left to do. The engine can be
// ended and started again; queue and backends outlive it.
type world struct {
	testing.TB
	settings
	queue   *queue.Queue
	store   *flakyStore
	fake    *backendtest.Fake // the first backend
	second  *backendtest.Fake // nil unless there is one
	careful []*carefulBackend
	engine  *engine.Engine
	leave   func()
}

// settings of a world. The zero value is a machine with two CPUs and one backend.
type settings struct {
	cpus    int64
	classes map[string]engine.Class
	other   string // name of a second backend, which does not use this machine
	remote  bool   // the first backend does not use this machine
	meter   engine.Meter
	log     *logBuffer // nil = nobody reads it
	quiet   func(next task.Instant)
}

// class is a class whose tasks go to the first backend.
func class(name string, change ...func(*engine.Class)) engine.Class {
	c := engine.Class{Name: name, Backends: []string{"fake"}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func parallel(n int) func(*engine.Class) { return func(c *engine.Class) { c.Parallel = n } }

// inBubble runs a test in a bubble, over a new world.
func inBubble(t *testing.T, s settings, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t, s)) })
}

func newWorld(tb testing.TB, s settings) *world {
	tb.Helper()
	if s.cpus == 0 {
		s.cpus = 2
	}
	if s.classes == nil {
		s.classes = map[string]engine.Class{"c": class("c")}
	}
	w := &world{TB: tb, settings: s, fake: backendtest.NewFake()}
	w.openQueue()
	w.careful = append(w.careful, &carefulBackend{Fake: w.fake, local: !s.remote, world: w})
	if s.other != "" {
		w.second = backendtest.NewFake()
		w.second.Called = s.other
		w.careful = append(w.careful, &carefulBackend{Fake: w.second, world: w})
	}
	tb.Cleanup(func() {
		w.stop()
		for _, c := range w.careful {
			w.checkBegun(c.Fake)
			c.Close()
		}
		w.closeQueue()
	})
	w.start()
	return w
}

func (w *world) openQueue() {
	w.Helper()
	q, err := queue.Open(context.Background(), queue.Options{Beat: 24 * time.Hour, Dir: w.TempDir()})
	if err != nil {
		w.Fatalf("open the queue: %v", err)
	}
	w.queue, w.store = q, &flakyStore{Queue: q}
}

func (w *world) closeQueue() {
	if err := w.queue.Check(context.Background()); err != nil {
		w.Errorf("the queue is not consistent: %v", err)
	}
	if err := w.queue.Close(); err != nil {
		w.Errorf("close the queue: %v", err)
	}
}

// make makes an engine over what is there.
func (w *world) make() *engine.Engine {
	w.Helper()
	var regs []engine.Registration
	for _, c := range w.careful {
		regs = append(regs, engine.Registration{Backend: c, Local: c.local, NoImage: true})
	}
	e, err := engine.New(engine.Options{
		Store: w.store, Backends: regs, Classes: w.classes, Wake: w.queue.Changed(),
		Capacity: scheduler.Capacity{CPUMilli: w.cpus * 1000},
		Logger:   w.logger(), Meter: w.meter, Quiet: w.quiet,
	})
	if err != nil {
		w.Fatalf("make an engine: %v", err)
	}
	return e
}

// turn makes the loop turn once.
func (w *world) turn() {
	w.Helper()
	if _, _, err := w.engine.ResumeClass(context.Background(), "none", "uid 7"); err != nil {
		w.Fatalf("the loop does not turn: %v", err)
	}
}

func (w *world) logger() *slog.Logger {
	if w.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w.log, nil))
}

// logBuffer is a log that a test reads.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count returns how many lines have all the parts.
func (l *logBuffer) count(parts ...string) (n int) {
lines:
	for line := range strings.Lines(l.text()) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		n++
	}
	return n
}

// start runs an engine.
func (w *world) start() {
	w.Helper()
	e := w.make()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	w.engine = e
	w.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
	w.wait()
}

func (w *world) stop() { w.leave() }

func (w *world) restart() {
	w.Helper()
	w.stop()
	w.start()
}

// wait returns when everything that can happen without time passing has happened.
func (w *world) wait() { synctest.Wait() }

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // in a synctest bubble
	synctest.Wait()
}

// job is a task of class c that follows a script.
func job(id, script string, change ...func(*task.Spec)) *task.Spec {
	s := &task.Spec{ID: id, Class: "c", Argv: []string{script}}
	for _, f := range change {
		f(s)
	}
	return s
}

func after(id string, when task.Condition) func(*task.Spec) {
	return func(s *task.Spec) { s.After = append(s.After, task.Dep{ID: id, When: when}) }
}

func of(class string) func(*task.Spec)  { return func(s *task.Spec) { s.Class = class } }
func retries(n int) func(*task.Spec)    { return func(s *task.Spec) { s.Retries = n } }
func priority(p int32) func(*task.Spec) { return func(s *task.Spec) { s.Priority = p } }
func on(backend string) func(*task.Spec) {
	return func(s *task.Spec) { s.Backends = []string{backend} }
}

// submit submits tasks and lets what follows from it happen.
func (w *world) submit(specs ...*task.Spec) {
	w.Helper()
	got, err := w.queue.Submit(context.Background(), specs)
	if err != nil {
		w.Fatalf("submit: %v", err)
	}
	for _, s := range got {
		if s.Err != nil {
			w.Fatalf("submit: %v", s.Err)
		}
	}
	w.wait()
}

func (w *world) get(id string) task.Task {
	w.Helper()
	t, err := w.queue.Lookup(id)
	if err != nil {
		w.Fatalf("look up %s: %v", id, err)
	}
	return t
}

// want ends the test unless the task is in the state.
func (w *world) want(id string, s task.State) task.Status {
	w.Helper()
	t := w.get(id)
	if t.State() != s {
		w.Fatalf("%s is %s, want %s (attempt %d: %s)", id, t.State(), s, t.Attempt(), t.Status().Outcome.Message)
	}
	return t.Status()
}

// cancel asks for the end of a task, which has to be accepted.
func (w *world) cancel(id string) task.Task {
	w.Helper()
	t, err := w.engine.Cancel(context.Background(), w.get(id), "uid 7", "no more use")
	if err != nil {
		w.Fatalf("cancel %s: %v", id, err)
	}
	w.wait()
	return t
}

// why returns the sentence about a task, which must not be empty.
func (w *world) why(id string) string {
	w.Helper()
	why, err := w.engine.Explain(w.get(id))
	if err != nil || strings.TrimSpace(why) == "" {
		w.Fatalf("explain %s: %q, %v", id, why, err)
	}
	return why
}

// says ends the test unless the sentence about the task has all the parts.
func (w *world) says(id string, parts ...string) {
	w.Helper()
	why := w.why(id)
	for _, p := range parts {
		if !strings.Contains(why, p) {
			w.Fatalf("%s: %q lacks %q", id, why, p)
		}
	}
}

// began returns how many attempts began on the first backend.
func (w *world) began() int { return len(w.fake.Begun()) }

// checkBegun is the promise that matters most: no attempt begins twice.
func (w *world) checkBegun(f *backendtest.Fake) {
	for ref, n := range f.Begun() {
		if n > 1 {
			w.Errorf("attempt %d of task %d began %d times on %s", ref.Attempt, ref.Seq, n, f.Name())
		}
	}
}

// records returns the events of one kind, as "id" in order.
func (w *world) records(kind task.EventKind) []string {
	w.Helper()
	all, err := w.queue.Records(1, 100_000)
	if err != nil {
		w.Fatalf("read the event log: %v", err)
	}
	var ids []string
	for _, r := range all {
		if r.Kind == kind {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// carefulBackend checks what the engine promises to backends: nothing is handed
// over before its placement is on disk, nothing forgotten before its end is, and
// only what is Stopping on disk is stopped.
type carefulBackend struct {
	*backendtest.Fake
	local bool
	world *world
	keeps atomic.Bool   // Forget fails
	deaf  atomic.Uint64 // Stop of this task fails; 0 = of none

	mu    sync.Mutex
	calls map[string]int
}

func (c *carefulBackend) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.calls[what]++
}

func (c *carefulBackend) called(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[what]
}

func (c *carefulBackend) stored(ref task.Ref) task.Task {
	t, err := c.world.queue.Get(ref.Seq)
	if err != nil {
		c.world.Errorf("task %d: %v", ref.Seq, err)
	}
	return t
}

func (c *carefulBackend) Launch(ctx context.Context, tasks []task.Task) error {
	c.count("launch")
	for _, t := range tasks {
		s := c.stored(t.Ref())
		if s.Attempt() != t.Attempt() || s.State() != task.Assigned || s.Status().Backend != c.Name() {
			c.world.Errorf("attempt %d of task %d was handed to %s, but on disk it is %s on %q, attempt %d",
				t.Attempt(), t.Seq, c.Name(), s.State(), s.Status().Backend, s.Attempt())
		}
	}
	return c.Fake.Launch(ctx, tasks)
}

func (c *carefulBackend) Stop(ctx context.Context, t task.Task) error {
	c.count("stop")
	if s := c.stored(t.Ref()); s.State() != task.Stopping || s.Attempt() != t.Attempt() {
		c.world.Errorf("attempt %d of task %d was told to stop, but on disk it is %s, attempt %d", t.Attempt(), t.Seq, s.State(), s.Attempt())
	}
	if task.Seq(c.deaf.Load()) == t.Seq {
		return errors.New("it does not hear")
	}
	return c.Fake.Stop(ctx, t)
}

// deafen makes Stop of one task fail.
func (c *carefulBackend) deafen(seq task.Seq) { c.deaf.Store(uint64(seq)) }

func (c *carefulBackend) Forget(ctx context.Context, refs []task.Ref) error {
	c.count("forget")
	if c.keeps.Load() {
		return errors.New("it does not listen")
	}
	for _, ref := range refs {
		s, err := c.world.queue.Get(ref.Seq)
		if err != nil && !errors.Is(err, queue.ErrNotFound) {
			c.world.Errorf("task %d: %v", ref.Seq, err)
		}
		if err == nil && s.Attempt() == ref.Attempt && !s.State().Terminal() {
			c.world.Errorf("attempt %d of task %d was forgotten, but on disk it is %s", ref.Attempt, ref.Seq, s.State())
		}
	}
	return c.Fake.Forget(ctx, refs)
}

// flakyStore is the queue, and a disk that is full when the test says so.
type flakyStore struct {
	*queue.Queue
	mu      sync.Mutex
	broken  error
	heads   error
	lease   error
	applies error
	doubts  bool // every other Apply is stored, and answers that nobody knows
	calls   int
	damaged map[task.Seq]bool // Get cannot read them; Apply, too, while unmovable
	unmoved bool
	met     map[task.Seq]bool // Apply could not read them, so Line passes them by
	looked  atomic.Int64      // at how many heads of the line
	refused int
}

var _ engine.Store = (*flakyStore)(nil)

// breakWith makes every call that writes fail, until it is called with nil.
func (s *flakyStore) breakWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

// loseLease makes it unknown whose the queue is, until it is called with nil.
func (s *flakyStore) loseLease(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = err
}

func (s *flakyStore) ConfirmLease() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.lease, s.Queue.ConfirmLease())
}

// breakHeads makes looking at the line fail, until it is called with nil.
func (s *flakyStore) breakHeads(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads = err
}

// breakApply makes Apply alone fail, until it is called with nil.
func (s *flakyStore) breakApply(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applies = err
}

func (s *flakyStore) Line(visit func(scheduler.Head) scheduler.Verdict) error {
	s.mu.Lock()
	err := s.heads
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Queue.Line(func(h scheduler.Head) scheduler.Verdict {
		if s.isMet(h.Seq) {
			return scheduler.More
		}
		s.looked.Add(1)
		return visit(h)
	})
}

// damage makes a part of a task unreadable: its payload, or, with unmovable, its
// status.
func (s *flakyStore) damage(seq task.Seq, unmovable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged, s.unmoved = map[task.Seq]bool{seq: true}, unmovable
}

func (s *flakyStore) isDamaged(seq task.Seq) (damaged, unmovable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged[seq], s.damaged[seq] && s.unmoved
}

func (s *flakyStore) Get(seq task.Seq) (task.Task, error) {
	if damaged, _ := s.isDamaged(seq); damaged {
		return task.Task{}, fmt.Errorf("its checksum is wrong: %w", task.ErrDamaged)
	}
	return s.Queue.Get(seq)
}

func (s *flakyStore) meet(seq task.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.met = map[task.Seq]bool{seq: true}
}

func (s *flakyStore) isMet(seq task.Seq) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.met[seq]
}

// applyWhole applies what is not about damaged tasks.
func (s *flakyStore) applyWhole(ctx context.Context, changes []task.Change) ([]task.Applied, error) {
	out := make([]task.Applied, len(changes))
	var whole []task.Change
	var at []int
	for i, c := range changes {
		if _, unmovable := s.isDamaged(c.Seq); unmovable {
			out[i].Err = fmt.Errorf("its checksum is wrong: %w", task.ErrDamaged)
			s.meet(c.Seq)
			continue
		}
		whole, at = append(whole, c), append(at, i)
	}
	applied, err := s.Queue.Apply(ctx, whole)
	for i, a := range applied {
		out[at[i]] = a
	}
	return out, err
}

func (s *flakyStore) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		s.refused++
	}
	return s.broken
}

func (s *flakyStore) Apply(ctx context.Context, changes []task.Change) ([]task.Applied, error) {
	s.mu.Lock()
	err := s.applies
	s.mu.Unlock()
	if err = cmp.Or(err, s.trouble()); err != nil {
		return nil, err
	}
	applied, err := s.applyWhole(ctx, changes)
	return applied, cmp.Or(err, s.doubt())
}

func (s *flakyStore) Pause(ctx context.Context, class string, p task.Pause) (task.Pause, bool, error) {
	if err := s.trouble(); err != nil {
		return task.Pause{}, false, err
	}
	return s.Queue.Pause(ctx, class, p)
}

func (s *flakyStore) Resume(ctx context.Context, class string) (task.Pause, bool, error) {
	if err := s.trouble(); err != nil {
		return task.Pause{}, false, err
	}
	return s.Queue.Resume(ctx, class)
}

func (s *flakyStore) Advance(ctx context.Context, now task.Instant) (task.Instant, bool, error) {
	if err := s.trouble(); err != nil {
		return 0, false, err
	}
	return s.Queue.Advance(ctx, now)
}

// doubt is the error of a commit that is there, and whose caller cannot be told so.
func (s *flakyStore) doubt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if !s.doubts || s.calls%2 == 0 {
		return nil
	}
	return &task.Error{Code: task.CodeUnavailable, Message: "the last sync failed", Err: queue.ErrOutcomeUnknown}
}

// diskFull is what the queue says then.
func diskFull() error { return task.Errorf(task.CodeExhausted, "nothing was stored: the disk is full") }

// must fails the test for an error, in places where there is nothing else to say.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func name(prefix string, n int) string { return fmt.Sprintf("%s-%d", prefix, n) }
