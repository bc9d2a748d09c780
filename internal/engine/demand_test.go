package engine_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// fetching is a backend whose images are what the test says.
type fetching struct {
	*backendtest.Fake
	mu     sync.Mutex
	wanted []string
	images map[string]scheduler.Image
	sink   func([]task.Change)
}

func (f *fetching) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	f.mu.Lock()
	f.sink = sink
	f.mu.Unlock()
	return f.Fake.Watch(ctx, active, sink)
}

func (f *fetching) Want(images []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = images
}

func (f *fetching) Images() map[string]scheduler.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.images
}

// set says how it is with an image, and has the engine look.
func (f *fetching) set(name string, is scheduler.Image) {
	f.mu.Lock()
	images := maps.Clone(f.images)
	images[name] = is
	f.images = images
	sink := f.sink
	f.mu.Unlock()
	sink(nil)
}

// A backend hears which images waiting tasks need; a task starts when its image is
// there, and fails when it can never be had.
func TestImagesAreWantedWhileTasksWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, err := queue.Open(t.Context(), queue.Options{Beat: 24 * time.Hour, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		f := &fetching{Fake: backendtest.NewFake(), images: map[string]scheduler.Image{}}
		e, err := engine.New(engine.Options{
			Store: q, Backends: []engine.Registration{{Backend: f, Local: true, Image: true}}, Classes: map[string]engine.Class{"c": class("c")},
			Wake: q.Changed(), Capacity: scheduler.Capacity{CPUMilli: 2000}, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			f.Close()
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}()
		for _, id := range []string{"good", "bad"} {
			s := task.Spec{ID: id, Class: "c", Argv: []string{"x"}, Image: id + ":1", Payload: []byte(`{"hang": true}`)}
			if got, err := q.Submit(t.Context(), []*task.Spec{&s}); err != nil || got[0].Err != nil {
				t.Fatal(got, err)
			}
		}
		synctest.Wait()
		f.mu.Lock()
		wanted := f.wanted
		f.mu.Unlock()
		if !slices.Equal(wanted, []string{"bad:1", "good:1"}) {
			t.Fatalf("wanted are %q", wanted)
		}
		get := func(id string) task.Task {
			tk, err := q.Lookup(id)
			if err != nil {
				t.Fatal(err)
			}
			return tk
		}
		if why, err := e.Explain(get("good")); err != nil || !strings.Contains(why, "its image good:1 is being looked for") {
			t.Errorf("it waits because %q, %v", why, err)
		}
		f.set("good:1", scheduler.Image{Ready: true})
		f.set("bad:1", scheduler.Image{Bad: true, Why: "does not exist"})
		synctest.Wait()
		if s := get("good").State(); s != task.Running {
			t.Errorf("with its image it is %s", s)
		}
		bad := get("bad")
		if o := bad.Status().Outcome; bad.State() != task.Failed || o.Class != task.ImageTrouble || o.Message != "its image bad:1 does not exist" {
			t.Errorf("without one it is %s: %+v", bad.State(), o)
		}
	})
}
