package dropfolder

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ledger is a queue in memory: it survives a Folder, as a queue survives a crash.
type ledger struct {
	mu      sync.Mutex
	tasks   map[string]*booked
	records []task.Record
	removed uint64 // so many of the first records are gone
	grown   chan struct{}

	submitErr error                  // for every submission, when it is set
	refuse    func(Submission) error // for one
	batches   []int
	cancels   []string
	orders    []string
	orderErr  error
	cancelErr error
	leaseErr  error
	rebuilt   bool
}

// booked is a task of the ledger.
type booked struct {
	content string
	sub     Submission
	times   int // it was submitted, and accepted or found to be there
	outcome Outcome
}

func newLedger() *ledger {
	return &ledger{tasks: map[string]*booked{}, grown: make(chan struct{})}
}

func (l *ledger) Submit(ctx context.Context, subs []Submission) ([]Answer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.submitErr != nil {
		return nil, l.submitErr
	}
	l.batches = append(l.batches, len(subs))
	answers := make([]Answer, len(subs))
	for i, s := range subs {
		answers[i] = l.submit(s)
	}
	return answers, nil
}

func (l *ledger) submit(s Submission) Answer {
	if l.refuse != nil {
		if err := l.refuse(s); err != nil {
			return Answer{Err: err}
		}
	}
	if s.Class == "quick" {
		return Answer{Err: task.Errorf(task.CodeInvalid, "unknown class %q", s.Class)}
	}
	if err := task.ValidateID(s.ID); err != nil {
		return Answer{Err: err}
	}
	payload, err := s.Payload.JSON()
	if err != nil {
		return Answer{Err: err}
	}
	content := fmt.Sprint(s.Class, s.Priority, string(payload))
	if t := l.tasks[s.ID]; t != nil {
		if t.content != content {
			return Answer{Err: task.Errorf(task.CodeConflict, "task %s is another one", s.ID)}
		}
		t.times++
		return Answer{Existing: true}
	}
	l.tasks[s.ID] = &booked{content: content, sub: s, times: 1, outcome: Outcome{State: task.Pending, Ticket: s.Ticket}}
	l.record(task.Record{ID: s.ID, Kind: task.EventSubmitted, To: task.Pending})
	return Answer{}
}

func (l *ledger) record(r task.Record) {
	r.Index = l.removed + uint64(len(l.records)) + 1
	l.records = append(l.records, r)
	close(l.grown)
	l.grown = make(chan struct{})
}

// end ends a task.
func (l *ledger) end(id string, o Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[id]
	o.Ticket = t.outcome.Ticket
	if o.EndedAt.IsZero() {
		o.EndedAt = time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)
	}
	t.outcome = o
	l.record(task.Record{ID: id, Kind: task.EventExited, To: o.State})
}

// endAll ends all tasks that have not ended.
func (l *ledger) endAll() {
	for id, t := range l.all() {
		if !t.outcome.State.Terminal() {
			l.end(id, Outcome{State: task.Succeeded, Result: []byte(`{"of":"` + id + `"}`)})
		}
	}
}

// with changes or reads what a Folder may be reading.
func (l *ledger) with(f func(l *ledger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

func (l *ledger) all() map[string]booked {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]booked{}
	for id, t := range maps.All(l.tasks) {
		out[id] = *t
	}
	return out
}

func (l *ledger) Outcome(id string) (Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tasks[id]; t != nil {
		return t.outcome, nil
	}
	return Outcome{}, task.Errorf(task.CodeNotFound, "no such task: %s", id)
}

func (l *ledger) Order(_ context.Context, order json.RawMessage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.orderErr != nil {
		return l.orderErr
	}
	l.orders = append(l.orders, string(order))
	return nil
}

func (l *ledger) ConfirmLease() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaseErr
}

func (l *ledger) Rebuilt() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rebuilt, nil
}

func (l *ledger) ForgetRebuilt() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rebuilt = false
	return nil
}

func (l *ledger) Cancel(_ context.Context, id, by, reason string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[id]
	switch {
	case l.cancelErr != nil:
		return l.cancelErr
	case t == nil:
		return task.Errorf(task.CodeNotFound, "no such task: %s", id)
	case t.outcome.State.Terminal():
		return task.Errorf(task.CodeConflict, "task %s has ended", id)
	}
	l.cancels = append(l.cancels, id+" by "+by+": "+reason)
	return nil
}

func (l *ledger) Records(from uint64, limit int) ([]task.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := uint64(0)
	if from > l.removed+1 {
		at = min(from-l.removed-1, uint64(len(l.records)))
	}
	out := l.records[at:]
	return out[:min(limit, len(out))], nil
}

func (l *ledger) LastIndex() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.removed + uint64(len(l.records))
}

func (l *ledger) WaitRecords(ctx context.Context, after uint64) error {
	for {
		l.mu.Lock()
		last, grown := l.removed+uint64(len(l.records)), l.grown
		l.mu.Unlock()
		if last > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fuzzFolder is a Folder that is driven by hand.
type fuzzFolder struct {
	*Folder
	ledger *ledger
	now    time.Time
	t      testing.TB
}

func newFuzzFolder(t testing.TB) *fuzzFolder {
	t.Helper()
	dir := inMemory(t)
	m := &fuzzFolder{ledger: newLedger(), now: time.Unix(1_800_000_000, 0), t: t}
	f, err := New(Options{Dir: dir, Tasks: m.ledger, Log: m.ledger, Origin: m.ledger, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return m.now }})
	must(t, err)
	m.Folder = f
	m.step()
	return m
}

// step passes more time than any file is waited for.
func (m *fuzzFolder) step() {
	m.round(m.t.Context())
	m.now = m.now.Add(DefaultPatience)
}
