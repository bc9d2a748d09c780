//go:build failpoint

package queue_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func init() { roles["everything"] = everything }

// TestFailpoints dies at every place that the queue declares, and checks what
// is left: go test -tags failpoint ./queue.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	for _, name := range failpoint.Names() {
		if !strings.HasPrefix(name, "queue/") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"=everything", childDirEnv+"="+dir, failpoint.Env+"="+name)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err == nil {
				t.Fatal("the child never came there")
			}
			acknowledged := map[string]string{}
			for line := range strings.Lines(string(out)) {
				id, state, _ := strings.Cut(strings.TrimSpace(line), " ")
				acknowledged[id] = state
			}
			checkAcknowledged(t, dir, acknowledged)
		})
	}
}

// everything takes tasks through events of every kind.
func everything(dir string) error {
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		return err
	}
	cancel := task.Event{Kind: task.EventCancelAsked, By: "me"}
	lives := [][]task.Event{
		{{Kind: task.EventHeld, Text: "wait"}, {Kind: task.EventHeld}, placed, launched, started, {Kind: task.EventNoted, Text: "word"}, failed},
		{{Kind: task.EventCancelled}, {Kind: task.EventRetried}},
		{{Kind: task.EventRefused}},
		{placed, {Kind: task.EventNotStarted}},
		{placed, launched, started, cancel, {Kind: task.EventStopping, Cause: task.CauseCancel}, {Kind: task.EventStopped}},
		{placed, launched, {Kind: task.EventVanished}},
	}
	for i, life := range lives {
		if err := live(q, fmt.Sprintf("life-%d", i), life); err != nil {
			return err
		}
	}
	dep := after("dependant", task.AfterAny, "waited-for")
	if _, err := q.Submit(context.Background(), []*task.Spec{spec("waited-for"), dep}); err != nil {
		return err
	}
	if err := live(q, "waited-for", []task.Event{{Kind: task.EventCancelled}}); err != nil {
		return err
	}
	if _, _, err := q.Advance(context.Background(), later); err != nil {
		return err
	}
	return q.Close()
}

// live submits a task, if it is new, and says aloud each state that its first
// attempt was given.
func live(q *queue.Queue, id string, events []task.Event) error {
	answers, err := q.Submit(context.Background(), []*task.Spec{spec(id)})
	if err != nil {
		return err
	}
	fmt.Println(id, task.Pending)
	t := answers[0].Task
	for _, ev := range events {
		ev.At, ev.Attempt = later, t.Attempt()
		applied, err := q.Apply(context.Background(), []task.Change{{Seq: t.Seq, Event: ev}})
		if err != nil {
			return err
		}
		if applied[0].Err != nil {
			return applied[0].Err
		}
		if t = applied[0].Task; t.Attempt() == 1 {
			fmt.Println(id, t.State())
		}
	}
	return nil
}
