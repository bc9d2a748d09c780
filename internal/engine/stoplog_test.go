package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// unreachable is a backend that cannot be told anything.
type unreachable struct{ Backend }

func (unreachable) Name() string                          { return "process" }
func (unreachable) Stop(context.Context, task.Task) error { return errors.New("no connection") }

// TestStopsThatFailAreOneLine: a backend that is down fails for every task that is
// to be stopped, and the log says so once, with how many they are.
func TestStopsThatFailAreOneLine(t *testing.T) {
	var log bytes.Buffer
	e := &Engine{
		backends: map[string]Registration{"process": {Backend: unreachable{}}},
		order:    []string{"process"},
		active:   map[task.Seq]task.Task{}, todo: newTodo(), setbacks: setbacks{}, now: time.Now,
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	for seq := task.Seq(1); seq <= 50; seq++ {
		tk := task.New(seq, &task.Spec{ID: fmt.Sprint(seq), Class: "c", Argv: []string{"true"}}, 0)
		for _, ev := range []task.Event{
			{Kind: task.EventPlaced, Attempt: 1, Backend: "process"},
			{Kind: task.EventStopping, Attempt: 1, Cause: task.CauseTimeout},
		} {
			var err error
			if tk, err = task.Apply(tk, ev); err != nil {
				t.Fatal(err)
			}
		}
		e.active[seq], e.todo.stop[seq] = tk, stopping{}
	}
	e.stop(t.Context())
	got := log.String()
	if strings.Count(got, "\n") != 1 || !strings.Contains(got, "tasks=50") || !strings.Contains(got, "no connection") {
		t.Errorf("the log says:\n%s", got)
	}
	if len(e.todo.stop) != 50 {
		t.Errorf("%d stops are left to be tried again", len(e.todo.stop))
	}
}
