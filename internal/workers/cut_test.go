package workers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/workers"
)

// daemon follows tasks as an engine would, and forgets what has ended.
type daemon struct {
	t testing.TB
	b *workers.Backend

	mu    sync.Mutex
	tasks map[task.Seq]task.Task
	moved chan struct{}
}

func (p *place) daemon(t testing.TB) *daemon {
	t.Helper()
	d := &daemon{t: t, b: p.open(t), tasks: map[task.Seq]task.Task{}, moved: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.b.Watch(ctx, nil, d.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *daemon) sink(changes []task.Change) {
	d.mu.Lock()
	var over []task.Ref
	for _, c := range changes {
		n, err := task.Apply(d.tasks[c.Seq], c.Event)
		if err != nil {
			if !errors.Is(err, task.ErrStale) {
				d.t.Errorf("%v: %+v", err, c.Event)
			}
			continue
		}
		d.tasks[c.Seq] = n
		if n.State().Terminal() {
			over = append(over, task.Ref{Seq: c.Seq, Attempt: c.Event.Attempt})
		}
	}
	d.mu.Unlock()
	if err := d.b.Forget(context.Background(), over); err != nil {
		d.t.Error(err)
	}
	select {
	case d.moved <- struct{}{}:
	default:
	}
}

// launch hands over tasks that run a line of the shell.
func (d *daemon) launch(n int, line string) {
	d.t.Helper()
	var all []task.Task
	d.mu.Lock()
	for i := range n {
		seq := task.Seq(len(d.tasks) + 1)
		s := &task.Spec{ID: fmt.Sprint("t", seq), Class: "short", Argv: []string{"/bin/sh", "-c", line}, Env: []string{"PATH=/usr/bin:/bin"}}
		t, err := task.Apply(task.New(seq, s, 0), task.Event{Kind: task.EventPlaced, At: 1, Attempt: 1, Backend: workers.Name})
		if err != nil {
			d.t.Error(i, err)
		}
		d.tasks[seq] = t
		all = append(all, t)
	}
	d.mu.Unlock()
	if err := d.b.Launch(d.t.Context(), all); err != nil {
		d.t.Fatal(err)
	}
}

// await waits until so many tasks are in one of the states.
func (d *daemon) await(n int, states ...task.State) {
	d.t.Helper()
	late := time.After(time.Minute)
	for {
		have, all := 0, map[task.State]int{}
		d.mu.Lock()
		for _, t := range d.tasks {
			all[t.State()]++
			for _, s := range states {
				if t.State() == s {
					have++
				}
			}
		}
		d.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-d.moved:
		case <-late:
			d.t.Fatalf("%d tasks are not %v: %v", n, states, all)
		}
	}
}

// line is a network that can be cut.
type line struct {
	*place
	cut atomic.Bool
}

var errCut = task.Errorf(task.CodeUnavailable, "the network is cut")

func (l *line) Lease(ctx context.Context, w lease.Want) (lease.Grant, error) {
	if l.cut.Load() {
		return lease.Grant{}, errCut
	}
	return l.place.Lease(ctx, w)
}

func (l *line) Extend(ctx context.Context, h lease.Hold) (lease.Orders, error) {
	if l.cut.Load() {
		return lease.Orders{}, errCut
	}
	return l.place.Extend(ctx, h)
}

func (l *line) Complete(ctx context.Context, id string, r []lease.Report) ([]task.Ref, error) {
	if l.cut.Load() {
		return nil, errCut
	}
	return l.place.Complete(ctx, id, r)
}

// TestCutOff: a worker is cut off while it runs some tasks and holds others. What it has
// begun ends by what its supervisor wrote, the rest is run by another; when it is back its
// reports change nothing. Each task runs once.
func TestCutOff(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.unheard = 500 * time.Millisecond
	l := &line{place: p}
	first, second := "first"+strings.Repeat("a", 8), "second"+strings.Repeat("a", 8)
	d := p.daemon(t)
	p.work(t, first, 2, l)
	ran := filepath.Join(p.dir, "ran")
	gate := filepath.Join(p.dir, "gate")
	d.launch(8, fmt.Sprintf("echo $DSPY_TASK_ID >> %s; while [ ! -e %s ]; do sleep 0.02; done", ran, gate))
	d.await(2, task.Running)
	l.cut.Store(true)
	p.work(t, second, 2, p)
	d.await(4, task.Running) // the second has some of those that the first had not begun
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.await(8, task.Succeeded) // those of the first by the journal alone
	l.cut.Store(false)
	d.launch(2, "echo $DSPY_TASK_ID >> "+ran)
	d.await(10, task.Succeeded)
	text, err := os.ReadFile(ran)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for id := range strings.FieldsSeq(string(text)) {
		times[id]++
	}
	for i := 1; i <= 10; i++ {
		if id := fmt.Sprint("t", i); times[id] != 1 {
			t.Errorf("%s ran %d times", id, times[id])
		}
	}
}

// TestWithoutItsFolder: a worker that was taken for gone, and whose folder was removed,
// can begin nothing.
func TestWithoutItsFolder(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	f := p.folder(t, "gone"+strings.Repeat("a", 8), 1)
	ref := task.Ref{Seq: 1, Attempt: 1}
	if err := f.Give(7, []task.Ref{ref}); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if ok, err := f.Claim(ref, 7); ok || err != nil {
		t.Errorf("claimed: %t, %v", ok, err)
	}
	if ok, err := f.Void(ref, 7); !ok || err != nil {
		t.Errorf("nobody can claim it, and it cannot be given on: %t, %v", ok, err)
	}
	if err := f.Give(8, []task.Ref{ref}); err == nil {
		t.Error("a lease was written where nobody is")
	}
}

// TestTimeIsOver: before its time is over a worker gives back what has not begun, and ends
// what would not end in time, which is tried again.
func TestTimeIsOver(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.daemon(t)
	short, long := "short"+strings.Repeat("a", 8), "later"+strings.Repeat("a", 8)
	ran := filepath.Join(p.dir, "ran")
	d.launch(4, "echo $DSPY_TASK_ID >> "+ran+"; exec sleep 100")
	p.workUntil(t, short, 1, p, time.Now().Add(4*time.Second))
	d.await(1, task.Running)
	d.await(1, task.Pending)
	d.mu.Lock()
	for _, k := range d.tasks {
		if past := k.Status().Past; k.State() == task.Pending && (len(past) != 1 || past[0].Outcome.Class != task.Preempted) {
			t.Errorf("%+v", past)
		}
	}
	d.mu.Unlock()
	p.work(t, long, 3, p)
	d.await(3, task.Running)
	text, err := os.ReadFile(ran)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(string(text))); n > 4 {
		t.Errorf("4 tasks began %d times", n)
	}
}

// TestLeaveIdle: of two workers that have nothing to do, and that nobody started by hand,
// one is told to end, and gets nothing more.
func TestLeaveIdle(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.daemon(t)
	ids := []string{"auto1" + strings.Repeat("a", 8), "auto2" + strings.Repeat("a", 8)}
	for _, id := range ids {
		p.folderOf(t, id, lease.Card{CPUMilli: 1000, Auto: true})
		for late := time.Now().Add(time.Minute); ; { // the daemon may be reading
			_, err := d.b.Lease(t.Context(), lease.Want{Worker: id, Hold: 1})
			if err == nil {
				break
			}
			if time.Now().After(late) {
				t.Fatal(err)
			}
		}
	}
	if n := d.b.LeaveIdle(); n != 1 {
		t.Errorf("%d are to end", n)
	}
	if n := d.b.LeaveIdle(); n != 0 {
		t.Errorf("%d more are to end", n)
	}
	leaving := 0
	for _, id := range ids {
		o, err := d.b.Extend(t.Context(), lease.Hold{Worker: id})
		if err != nil {
			t.Fatal(err)
		}
		if o.Leave {
			leaving++
		}
	}
	if leaving != 1 {
		t.Errorf("%d were told", leaving)
	}
}
