package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestKill kills a process that submits and applies as fast as it can, again
// and again on the same queue, and checks that everything it was told to be on
// disk is there. The property is of the process and not of the disk: what the
// kernel has taken survives.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kills := 10
	switch {
	case os.Getenv("DSPY_TEST_FULL") != "":
		kills = 100
	case testing.Short():
		kills = 5
	}
	acknowledged := map[string]string{} // id to the state that was answered
	for round := range kills {
		killOnce(t, dir, round, acknowledged)
		checkAcknowledged(t, dir, acknowledged)
	}
	if len(acknowledged) == 0 {
		t.Fatal("no child got so far as to acknowledge anything")
	}
}

// killOnce lets a child acknowledge a random number of steps before it dies,
// and reads what it said until then.
func killOnce(t *testing.T, dir string, round int, acknowledged map[string]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=churn", childDirEnv+"="+dir, "ROUND="+strconv.Itoa(round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := 1 + rand.IntN(400)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil { // a line that was cut off was not acknowledged
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		id, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		acknowledged[id] = state
		if left--; left == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
}

// checkAcknowledged: every task is there, in the state that was answered last or
// further, by a step or an attempt that was not heard of any more.
func checkAcknowledged(t *testing.T, dir string, acknowledged map[string]string) {
	t.Helper()
	q := openQueue(t, queue.Options{Dir: dir})
	defer closeQueue(t, q)
	for id, name := range acknowledged {
		tk, err := q.Lookup(id)
		if err != nil {
			t.Errorf("acknowledged task %s: %v", id, err)
			continue
		}
		want, _ := task.ParseState(name)
		if tk.Attempt() == 1 && tk.State() < want {
			t.Errorf("task %s was acknowledged as %s and is %s", id, want, tk.State())
		}
	}
}

// churn is the child of TestKill: it never ends by itself.
func churn(dir string) error {
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		return err
	}
	lines := make(chan string)
	fail := make(chan error)
	for worker := range 8 {
		go func() { fail <- churnWorker(q, fmt.Sprintf("r%s-w%d", os.Getenv("ROUND"), worker), lines) }()
	}
	for {
		select {
		case l := <-lines:
			if _, err := os.Stdout.WriteString(l); err != nil {
				return err
			}
		case err := <-fail:
			return err
		}
	}
}

func churnWorker(q *queue.Queue, name string, lines chan<- string) error {
	ctx := context.Background()
	for i := 0; ; i++ {
		s := spec(fmt.Sprintf("%s-%d", name, i))
		if i > 0 && rand.IntN(3) == 0 {
			s.After = []task.Dep{{ID: fmt.Sprintf("%s-%d", name, i-1), When: task.AfterAny}}
		}
		answers, err := q.Submit(ctx, []*task.Spec{s})
		if err != nil {
			return err
		}
		lines <- s.ID + " pending\n"
		seq := answers[0].Task.Seq
		for _, ev := range []task.Event{placed, launched, started, failed}[:rand.IntN(5)] {
			ev.Attempt, ev.At = 1, task.Instant(i+1)
			applied, err := q.Apply(ctx, []task.Change{{Seq: seq, Event: ev, Result: []byte(`{}`)}})
			if err != nil {
				return err
			}
			if applied[0].Err != nil {
				break // it waits for another
			}
			lines <- s.ID + " " + applied[0].Task.State().String() + "\n"
		}
		if _, _, err := q.Advance(ctx, task.Instant(i+1)); err != nil {
			return err
		}
	}
}
