//go:build failpoint

package queue_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

func init() {
	roles["queuecare-repair"] = func(dir string) error {
		_, err := queue.Repair(context.Background(), queue.Options{Dir: dir}, nil)
		return err
	}
	roles["queuecare-compact"] = func(dir string) error {
		_, err := queue.Compact(context.Background(), queue.Options{Dir: dir}, nil)
		return err
	}
	roles["queuecare-restore"] = func(dir string) error {
		_, err := queue.Restore(context.Background(), queue.Options{Dir: dir}, filepath.Join(dir, "backup"), queue.RestoreOptions{Replace: true}, nil)
		return err
	}
}

// TestCareFailpoints dies at every place of a repair, a restoration and a compaction.
// What is left can be opened and has all tasks, and the next attempt succeeds.
func TestCareFailpoints(t *testing.T) {
	t.Parallel()
	made := mixedQueue(t)
	if _, _, err := queue.Backup(context.Background(), queue.Options{Dir: made}, filepath.Join(made, "backup"), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range failpoint.Names() {
		place, ok := strings.CutPrefix(name, "queuecare/")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			what, _, _ := strings.Cut(place, "/")
			dir := filepath.Join(t.TempDir(), "q")
			if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
				t.Fatal(err)
			}
			dieIn(t, dir, "queuecare-"+what, name)
			v, err := queue.Verify(context.Background(), queue.Options{Dir: dir}, nil)
			if err != nil || !v.Sound() || v.Tasks != mixedTasks {
				t.Errorf("after the crash there is %+v (%v)", v, err)
			}
			if err := roles["queuecare-"+what](dir); err != nil {
				t.Errorf("the next attempt: %v", err)
			}
			if v := verifySound(t, dir); v.Tasks != mixedTasks {
				t.Errorf("after the next attempt there is %+v", v)
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}

func dieIn(t *testing.T, dir, role, name string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role, childDirEnv+"="+dir, failpoint.Env+"="+name)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err == nil {
		t.Fatal("the child never came there")
	}
}
