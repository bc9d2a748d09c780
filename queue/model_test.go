package queue_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// model is the queue as plain maps: what it should answer after every step.
type model struct {
	now    task.Instant
	last   task.Seq
	tasks  map[task.Seq]task.Task
	byID   map[string]task.Seq
	finals map[string]task.Final
	// waits has, for each pending task, the conditions on those it waits for.
	waits   map[task.Seq]map[task.Seq][]task.Condition
	delayed map[task.Seq]bool // its time has not come, or nobody has looked yet
	paused  map[string]task.Pause
	events  []string
}

func newModel(now task.Instant) *model {
	return &model{
		now: now, tasks: map[task.Seq]task.Task{}, byID: map[string]task.Seq{}, finals: map[string]task.Final{},
		waits: map[task.Seq]map[task.Seq][]task.Condition{}, delayed: map[task.Seq]bool{}, paused: map[string]task.Pause{},
	}
}

func (m *model) endOf(id string) (task.State, bool) {
	if seq, ok := m.byID[id]; ok {
		s := m.tasks[seq].State()
		return s, s.Terminal()
	}
	return m.finals[id].State, true
}

// blockers returns what a spec would wait for now, and whether it never can run.
func (m *model) blockers(s *task.Spec) (waits map[task.Seq][]task.Condition, refused bool) {
	waits = map[task.Seq][]task.Condition{}
	for _, d := range s.After {
		if end, ended := m.endOf(d.ID); ended {
			refused = refused || !d.When.Met(end)
			continue
		}
		waits[m.byID[d.ID]] = append(waits[m.byID[d.ID]], d.When)
	}
	return waits, refused
}

func (m *model) submit(s *task.Spec) {
	m.last++
	waits, refused := m.blockers(s)
	t := task.New(m.last, s, len(waits))
	m.tasks[m.last], m.byID[s.ID] = t, m.last
	m.waits[m.last] = waits
	m.event(m.last, task.EventSubmitted)
	if refused {
		m.mustStep(m.last, task.Event{Kind: task.EventRefused, At: m.now, Attempt: 1})
	}
}

func (m *model) event(seq task.Seq, k task.EventKind) {
	m.events = append(m.events, fmt.Sprintf("%d %s", seq, k))
}

func (m *model) mustStep(seq task.Seq, ev task.Event) {
	if err := m.step(seq, ev); err != nil {
		panic(err)
	}
}

func (m *model) step(seq task.Seq, ev task.Event) error {
	t := m.tasks[seq]
	var waits map[task.Seq][]task.Condition
	if ev.Kind == task.EventRetried {
		var refused bool
		waits, refused = m.blockers(t.Spec)
		ev.Blocked = len(waits)
		if refused {
			return errors.New("a task that it waits for has ended the wrong way")
		}
	}
	n, err := task.Apply(t, ev)
	if err != nil {
		return err
	}
	m.tasks[seq] = n
	m.event(seq, ev.Kind)
	if ev.Kind == task.EventRetried {
		m.waits[seq] = waits
	}
	if m.tasks[seq].State() != task.Pending {
		delete(m.waits, seq)
	}
	m.delayed[seq] = m.tasks[seq].Status().NotBefore > ev.At
	return nil
}

// advance does what calling Advance to its end does.
func (m *model) advance() {
	for {
		released := m.release()
		for _, seq := range slices.Sorted(maps.Keys(m.tasks)) {
			s := m.tasks[seq].Status()
			switch {
			case s.State != task.Pending:
			case s.Cancel != nil:
				m.mustStep(seq, task.Event{Kind: task.EventCancelled, At: m.now, Attempt: s.Attempt})
				released = true
			case s.NotBefore <= m.now && s.Blocked == 0 && s.Held == "":
				m.delayed[seq] = false
			}
		}
		if !released {
			return
		}
	}
}

// release sees to those that wait for what has ended up to now.
func (m *model) release() (some bool) {
	var ended []task.Seq
	for seq, t := range m.tasks {
		if t.State().Terminal() {
			ended = append(ended, seq)
		}
	}
	slices.Sort(ended)
	for _, dep := range ended {
		for _, seq := range slices.Sorted(maps.Keys(m.waits)) {
			conditions, ok := m.waits[seq][dep]
			if !ok {
				continue
			}
			delete(m.waits[seq], dep)
			ev := task.Event{Kind: task.EventDepEnded, At: m.now, Attempt: m.tasks[seq].Attempt()}
			for _, c := range conditions {
				if !c.Met(m.tasks[dep].State()) {
					ev.Kind = task.EventRefused
				}
			}
			m.mustStep(seq, ev)
			some = true
		}
	}
	return some
}

func (m *model) waitedFor(dep task.Seq) bool {
	for _, waits := range m.waits {
		if _, ok := waits[dep]; ok {
			return true
		}
	}
	return false
}

// expire removes the tasks that ended before the instant.
func (m *model) expire(until task.Instant) (removed []task.Ref) {
	for seq, t := range m.tasks {
		if s := t.Status(); s.State.Terminal() && s.EndedAt <= until && !m.waitedFor(seq) {
			removed = append(removed, t.Ref())
			m.finals[t.Spec.ID] = task.Final{ID: t.Spec.ID, Seq: seq, State: s.State, EndedAt: s.EndedAt, Digest: t.Spec.Digest()}
			delete(m.tasks, seq)
			delete(m.byID, t.Spec.ID)
		}
	}
	return removed
}

// line returns the ready tasks in order.
func (m *model) line() []task.Seq {
	var out []task.Seq
	for seq, t := range m.tasks {
		if s := t.Status(); s.State == task.Pending && s.Blocked == 0 && s.Held == "" && s.Cancel == nil && !m.delayed[seq] {
			out = append(out, seq)
		}
	}
	slices.SortFunc(out, func(a, b task.Seq) int {
		return cmp.Or(cmp.Compare(m.tasks[a].Spec.Order(), m.tasks[b].Spec.Order()), cmp.Compare(a, b))
	})
	return out
}

// machine drives a queue and its model through the same random steps.
type machine struct {
	root  string
	dirs  int
	clock *clock
	q     *queue.Queue
	m     *model
}

const modelAge = time.Hour

func (x *machine) open(t rapid.TB, dir string) {
	q, err := queue.Open(context.Background(), queue.Options{
		Dir: dir, Now: x.clock.now, Retention: queue.Retention{Age: modelAge, Count: -1, TombstoneAge: -1, EventAge: -1},
	})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	x.q = q
}

func (x *machine) close(t rapid.TB) {
	if err := x.q.Check(context.Background()); err != nil {
		t.Fatalf("check: %v", err)
	}
	if err := x.q.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func (x *machine) dir() string { return filepath.Join(x.root, fmt.Sprint(x.dirs)) }

var modelIDs = []string{"a", "b", "c", "d", "e", "f", "g", "h"}

func (x *machine) specs(t *rapid.T) []*task.Spec {
	known := slices.Concat(slices.Collect(maps.Keys(x.m.byID)), slices.Collect(maps.Keys(x.m.finals)))
	slices.Sort(known)
	s := &task.Spec{
		ID:       rapid.SampledFrom(modelIDs).Draw(t, "id") + fmt.Sprint(x.m.last%7),
		Class:    rapid.SampledFrom([]string{"cpu", "gpu"}).Draw(t, "class"),
		Priority: rapid.Int32Range(-2, 2).Draw(t, "priority"),
		Retries:  rapid.IntRange(0, 1).Draw(t, "retries"),
		Image:    rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "image"),
		Argv:     []string{"x\xff"},
		Env:      rapid.SampledFrom([][]string{nil, {"A=1"}, {"B=2", "C=3"}}).Draw(t, "env"),
		Ambient:  rapid.SampledFrom([][]string{nil, {"A=1"}, {"B=2", "C=3"}}).Draw(t, "ambient"),
	}
	if rapid.Bool().Draw(t, "long payload") {
		s.Payload = []byte(`{"text":"` + string(slices.Repeat([]byte("x"), 5000)) + `"}`)
	}
	for range rapid.IntRange(0, min(3, len(known))).Draw(t, "deps") {
		d := task.Dep{ID: rapid.SampledFrom(known).Draw(t, "dep"), When: task.Condition(rapid.IntRange(0, 2).Draw(t, "when"))}
		if d.ID != s.ID {
			s.After = append(s.After, d)
		}
	}
	return []*task.Spec{s, {ID: s.ID + "-next", Class: "cpu", Argv: []string{"true"}, After: []task.Dep{{ID: s.ID}}}}
}

// Submit gives the queue a spec, and one that waits for it.
func (x *machine) Submit(t *rapid.T) {
	specs := x.specs(t)
	answers, err := x.q.Submit(context.Background(), specs)
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	for i, s := range specs {
		x.checkAnswer(t, s, answers[i])
	}
}

func (x *machine) checkAnswer(t *rapid.T, s *task.Spec, got queue.Submitted) {
	final, removed := x.m.finals[s.ID]
	seq, exists := x.m.byID[s.ID]
	switch {
	case removed && final.Digest == s.Digest():
		if got.Final == nil || *got.Final != final {
			t.Fatalf("submitting %s after retention: %+v", s.ID, got)
		}
	case exists && x.m.tasks[seq].Spec.Digest() == s.Digest():
		if !got.Existing || got.Task.Seq != seq {
			t.Fatalf("submitting %s again: %+v", s.ID, got)
		}
	case removed || exists:
		if task.CodeOf(got.Err) != task.CodeConflict {
			t.Fatalf("submitting other content as %s: %+v", s.ID, got)
		}
	default:
		if got.Err != nil || got.Existing {
			t.Fatalf("submitting %s: %+v", s.ID, got)
		}
		x.m.submit(got.Task.Spec)
	}
}

var modelEvents = []task.EventKind{
	task.EventPlaced, task.EventPlaced, task.EventLaunched, task.EventStarted, task.EventExited, task.EventExited,
	task.EventNotStarted, task.EventStopping, task.EventStopped, task.EventVanished, task.EventRetried,
	task.EventCancelAsked, task.EventNoted, task.EventHeld, task.EventCancelled, task.EventRefused,
}

// Apply sends a few events to random tasks, illegal and late ones included.
func (x *machine) Apply(t *rapid.T) {
	if x.m.last == 0 {
		t.Skip("no tasks")
	}
	var changes []task.Change
	for range rapid.IntRange(1, 6).Draw(t, "events") {
		seq := task.Seq(rapid.Uint64Range(1, uint64(x.m.last)).Draw(t, "seq"))
		changes = append(changes, task.Change{Seq: seq, Event: task.Event{
			Kind:    rapid.SampledFrom(modelEvents).Draw(t, "kind"),
			At:      x.m.now,
			Attempt: max(x.m.tasks[seq].Attempt()-rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "late"), 1),
			Text:    rapid.SampledFrom([]string{"", "why"}).Draw(t, "text"),
			Lease:   task.Lease{CPUMilli: 1000},
			Outcome: task.Outcome{ExitCode: rapid.IntRange(0, 1).Draw(t, "code")},
		}})
	}
	answers, err := x.q.Apply(context.Background(), changes)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	for i, c := range changes {
		if _, ok := x.m.tasks[c.Seq]; !ok {
			if !errors.Is(answers[i].Err, queue.ErrNotFound) {
				t.Fatalf("apply to removed task: %v", answers[i].Err)
			}
			continue
		}
		if want := x.m.step(c.Seq, c.Event); (want == nil) != (answers[i].Err == nil) {
			t.Fatalf("%s on %d: got %v, want %v", c.Event.Kind, c.Seq, answers[i].Err, want)
		}
	}
}

// Advance lets time pass and does what it brings.
func (x *machine) Advance(t *rapid.T) {
	x.clock.advance(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second)
	x.m.now = x.clock.instant()
	for more := true; more; {
		var err error
		if _, more, err = x.q.Advance(context.Background(), x.m.now); err != nil {
			t.Fatalf("advance: %v", err)
		}
	}
	x.m.advance()
}

// Pause pauses a class, or resumes it.
func (x *machine) Pause(t *rapid.T) {
	class := rapid.SampledFrom([]string{"cpu", "gpu"}).Draw(t, "class")
	had, was := x.m.paused[class]
	if rapid.Bool().Draw(t, "resume") {
		got, ok, err := x.q.Resume(context.Background(), class)
		if err != nil || ok != was || got != had {
			t.Fatalf("resume %s: %+v %v %v, want %+v %v", class, got, ok, err, had, was)
		}
		delete(x.m.paused, class)
		return
	}
	p := task.Pause{At: x.m.now, By: "me", Reason: rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason")}
	got, already, err := x.q.Pause(context.Background(), class, p)
	if !was {
		had = p
	}
	if err != nil || already != was || got != had {
		t.Fatalf("pause %s: %+v %v %v, want %+v %v", class, got, already, err, had, was)
	}
	x.m.paused[class] = had
}

// Expire removes what ended an hour ago, now and then.
func (x *machine) Expire(t *rapid.T) {
	x.clock.advance(time.Duration(rapid.SampledFrom([]int{0, 0, 20, 61}).Draw(t, "minutes")) * time.Minute)
	x.m.now = x.clock.instant()
	var got []task.Ref
	for more := true; more; {
		var removed []task.Ref
		var err error
		if removed, more, err = x.q.Expire(context.Background(), x.m.now); err != nil {
			t.Fatalf("expire: %v", err)
		}
		got = append(got, removed...)
	}
	want := x.m.expire(x.m.now.Add(-modelAge))
	bySeq := func(a, b task.Ref) int { return cmp.Compare(a.Seq, b.Seq) }
	slices.SortFunc(got, bySeq)
	slices.SortFunc(want, bySeq)
	if !slices.Equal(got, want) {
		t.Fatalf("expire removed %v, want %v", got, want)
	}
}

// Crash goes on with a copy of the database as it is on disk at this moment.
func (x *machine) Crash(t *rapid.T) {
	old := x.dir()
	x.dirs++
	if err := os.CopyFS(x.dir(), os.DirFS(old)); err != nil {
		t.Fatalf("copy: %v", err)
	}
	abandoned := x.q
	x.open(t, x.dir())
	if err := abandoned.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// Reopen closes the queue and opens it again.
func (x *machine) Reopen(t *rapid.T) {
	x.close(t)
	x.open(t, x.dir())
}

// Check compares all that the queue answers with the model.
func (x *machine) Check(t *rapid.T) {
	var active []task.Seq
	counts := task.Counts{}
	for seq, want := range x.m.tasks {
		got, err := x.q.Get(seq)
		if err != nil {
			t.Fatalf("get %d: %v", seq, err)
		}
		x.compare(t, got, want)
		if byID, err := x.q.Lookup(want.Spec.ID); err != nil || byID.Seq != seq {
			t.Fatalf("lookup %s: %v %v, want %d", want.Spec.ID, byID.Seq, err, seq)
		}
		if want.State().Active() {
			active = append(active, seq)
		}
		if counts[want.Spec.Class] == nil {
			counts[want.Spec.Class] = map[task.State]int{}
		}
		counts[want.Spec.Class][want.State()]++
	}
	if got := x.q.Counts(); !reflect.DeepEqual(got, counts) {
		t.Fatalf("counts %v, want %v", got, counts)
	}
	x.checkClasses(t)
	slices.Sort(active)
	tasks, err := x.q.Active()
	if err != nil || !slices.Equal(seqs(tasks), active) {
		t.Fatalf("active %v %v, want %v", seqs(tasks), err, active)
	}
	x.checkLine(t)
	x.checkFinals(t)
	x.checkList(t)
	x.checkEvents(t)
}

// checkClasses compares what is known of each class.
func (x *machine) checkClasses(t *rapid.T) {
	waiting, oldest := map[string]task.Waiting{}, map[string]task.Instant{}
	for seq, tk := range x.m.tasks {
		s, class := tk.Status(), tk.Spec.Class
		if s.State != task.Pending {
			continue
		}
		at := tk.Spec.SubmittedAt
		if n := len(s.Past); n > 0 {
			at = s.Past[n-1].EndedAt
		}
		if oldest[class] == 0 || at < oldest[class] {
			oldest[class] = at
		}
		w := waiting[class]
		switch {
		case s.Cancel != nil:
			continue
		case s.Blocked > 0:
			w.Blocked++
		case s.Held != "":
			w.Held++
		case x.m.delayed[seq]:
			w.Delayed++
		default:
			w.Ready++
		}
		waiting[class] = w
	}
	if got := x.q.Waiting(); !maps.Equal(got, waiting) {
		t.Fatalf("waiting %v, want %v", got, waiting)
	}
	if got, err := x.q.OldestWaiting(); err != nil || !maps.Equal(got, oldest) {
		t.Fatalf("oldest %v %v, want %v", got, err, oldest)
	}
	if got := x.q.Paused(); !maps.Equal(got, x.m.paused) {
		t.Fatalf("paused %v, want %v", got, x.m.paused)
	}
}

func seqs(tasks []task.Task) []task.Seq {
	var out []task.Seq
	for _, t := range tasks {
		out = append(out, t.Seq)
	}
	return out
}

func (x *machine) compare(t *rapid.T, got, want task.Task) {
	g, w := got.Status(), want.Status()
	for _, s := range []*task.Status{&g, &w} {
		s.Outcome.Message = "" // the sentence of a refusal is not the model's business
		s.Past = slices.Clone(s.Past)
		for i := range s.Past {
			s.Past[i].Outcome.Message = ""
		}
	}
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("task %d is\n%+v, want\n%+v", got.Seq, g, w)
	}
	if got.Spec.Digest() != want.Spec.Digest() {
		t.Fatalf("task %d: spec is\n%+v, want\n%+v", got.Seq, got.Spec, want.Spec)
	}
}

func (x *machine) checkLine(t *rapid.T) {
	line := x.m.line()
	heads, err := headsOf(x.q, 1000)
	if err != nil {
		t.Fatalf("heads: %v", err)
	}
	var got []task.Seq
	for _, h := range heads {
		got = append(got, h.Seq)
		if want := x.m.tasks[h.Seq]; h.Attempt != want.Attempt() || h.Shape != want.Spec.Shape() {
			t.Fatalf("head %+v of %+v", h, want)
		}
	}
	if !slices.Equal(got, line) {
		t.Fatalf("heads %v, want %v", got, line)
	}
	for i, seq := range line {
		if ahead, _, err := x.q.Position(seq); err != nil || ahead != i {
			t.Fatalf("position of %d is %d (%v), want %d", seq, ahead, err, i)
		}
	}
}

func (x *machine) checkFinals(t *rapid.T) {
	for id, want := range x.m.finals {
		_, err := x.q.Lookup(id)
		var removed *queue.RemovedError
		if !errors.As(err, &removed) || removed.Final != want {
			t.Fatalf("lookup of removed %s: %v", id, err)
		}
	}
}

// checkList pages through everything, two at a time.
func (x *machine) checkList(t *rapid.T) {
	var got []task.Seq
	for f := (task.Filter{Limit: 2}); ; {
		page, next, err := x.q.List(f)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		got = append(got, seqs(page)...)
		if f.Before = next; next == 0 {
			break
		}
	}
	want := slices.Sorted(maps.Keys(x.m.tasks))
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Fatalf("list %v, want %v", got, want)
	}
}

func (x *machine) checkEvents(t *rapid.T) {
	records, err := x.q.Records(0, len(x.m.events)+1)
	if err != nil {
		t.Fatalf("records: %v", err)
	}
	var got []string
	for i, r := range records {
		got = append(got, fmt.Sprintf("%d %s", r.Seq, r.Kind))
		if r.Index != uint64(i+1) {
			t.Fatalf("record %d has index %d", i, r.Index)
		}
	}
	if !slices.Equal(got, x.m.events) {
		t.Fatalf("events\n%v, want\n%v", got, x.m.events)
	}
}

// memoryDir is a place where a commit costs no disk access, if there is one: this
// test is about what is committed, not about how durably.
func memoryDir() string {
	const shm = "/dev/shm"
	if st, err := os.Stat(shm); err == nil && st.IsDir() {
		return shm
	}
	return ""
}

// TestModel takes the queue through random steps, crashes included, and
// compares everything it answers with plain maps after each of them.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp(memoryDir(), "queue-model-*")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(root) }()
		c := newClock()
		x := &machine{root: root, clock: c, m: newModel(c.instant())}
		x.open(t, x.dir())
		defer func() { x.close(t) }()
		t.Repeat(map[string]func(*rapid.T){
			"submit": x.Submit, "apply": x.Apply, "apply more": x.Apply, "advance": x.Advance, "expire": x.Expire, "pause": x.Pause,
			"crash": x.Crash, "reopen": x.Reopen, "": x.Check,
		})
	})
}
