package backendtest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// watch collects what a Fake reports until the test ends.
func watch(t *testing.T, f *backendtest.Fake, active ...task.Task) (got func() []string, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var mu sync.Mutex
	var kinds []string
	go func() {
		defer close(done)
		if err := f.Watch(ctx, active, func(cs []task.Change) {
			mu.Lock()
			defer mu.Unlock()
			for _, c := range cs {
				kinds = append(kinds, c.Event.Kind.String())
			}
		}); err != nil {
			t.Error(err)
		}
	}()
	got = func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(kinds)
	}
	return got, func() { cancel(); <-done }
}

func assigned(t *testing.T, seq task.Seq, script string) task.Task {
	t.Helper()
	tk, err := task.Apply(task.New(seq, &task.Spec{ID: "t", Class: "c", Payload: []byte(script)}, 0),
		task.Event{Kind: task.EventPlaced, Attempt: 1, At: 1})
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func TestFakeFollowsScripts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := backendtest.NewFake()
		got, stop := watch(t, f)
		tk := assigned(t, 1, `{"run_ms": 100, "exit": 2}`)
		for range 2 { // twice is once
			if err := f.Launch(t.Context(), []task.Task{tk}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(99 * time.Millisecond)
		if k := got(); slices.Contains(k, "exited") {
			t.Fatalf("it ended early: %v", k)
		}
		time.Sleep(time.Millisecond)
		if k := got(); k[len(k)-1] != "exited" || f.Begun()[tk.Ref()] != 1 {
			t.Fatalf("%v, begun %v", k, f.Begun())
		}
		stop()
	})
}

func TestFakeOutlivesItsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := backendtest.NewFake()
		_, stop := watch(t, f)
		tk := assigned(t, 1, `{"hang": true}`)
		if err := f.Launch(t.Context(), []task.Task{tk}); err != nil {
			t.Fatal(err)
		}
		stop()
		f.Exit(tk.Ref(), task.Outcome{}, nil)
		got, stop := watch(t, f, tk)
		if k := got(); !slices.Equal(k, []string{"launched", "started", "exited"}) {
			t.Fatalf("reports %v", k)
		}
		stop()
	})
}

func TestFakeFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := backendtest.NewFake()
		got, stop := watch(t, f)
		got() // it watches now
		broken := errors.New("broken")
		f.FailLaunch(1, broken)
		f.SetFaults(backendtest.Faults{Repeat: 1, Lose: func(c task.Change) bool { return c.Event.Kind == task.EventStarted }})
		tasks := []task.Task{assigned(t, 1, `{}`), assigned(t, 2, `{"hang": true, "deaf": true}`)}
		if err := f.Launch(t.Context(), tasks); !errors.Is(err, broken) {
			t.Fatalf("Launch = %v", err)
		}
		if k := got(); !slices.Equal(k, []string{"launched", "launched", "exited", "exited"}) {
			t.Fatalf("reports %v", k)
		}
		f.SetFaults(backendtest.Faults{})
		if err := f.Launch(t.Context(), tasks[1:]); err != nil {
			t.Fatal(err)
		}
		if err := f.Stop(t.Context(), tasks[1]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(task.DefaultGrace)
		if k := got(); k[len(k)-1] != "stopped" {
			t.Fatalf("reports %v", k)
		}
		stop()
	})
}
