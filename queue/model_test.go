package queue_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
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
