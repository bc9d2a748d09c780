package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestBeginningsOfIDs: an argument that ends with a slash means all tasks whose ids begin
// so.
func TestBeginningsOfIDs(t *testing.T) {
	f, env := startFake(t)
	for id, command := range map[string]string{"exp/a": "true", "exp/b": "sleep", "exp/deep/c": "sleep", "exp2/d": "sleep", "e": "sleep"} {
		expect(t, env, exitDone, id, "", "submit", "--id", id, "--name", "run of "+id, "--", command)
	}
	list := func(args ...string) int {
		return strings.Count(expect(t, env, exitDone, "ID\t", "", append([]string{"ps"}, args...)...), "\n") - 1
	}
	for _, tc := range []struct {
		want int
		args string
	}{{3, "exp/"}, {1, "exp/deep/"}, {1, "exp2/"}, {0, "none/"}, {2, "exp/ --state RUNNING"}, {1, "--name deep"}, {4, "--name of_exp"}, {1, "exp/ --name deep -n 5"}} {
		args := strings.Fields(tc.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		if got := list(args...); got != tc.want {
			t.Errorf("ps %s lists %d tasks, want %d", tc.args, got, tc.want)
		}
	}
	expect(t, env, exitUsage, "", "ps takes no ids, but the beginning of ids up to a slash", "ps", "exp")
	expect(t, env, exitNotFound, "", "there is no task whose id begins with none/", "wait", "none/")
	expect(t, env, exitNotFound, "", "there is no task whose id begins with none/", "cancel", "none/", "exp/")
	expect(t, env, exitUsage, "", "not both at once", "cancel", "exp/", "e")
	expect(t, env, exitDone, "exp/b is running and would be cancelled", "would cancel 2", "cancel", "exp/", "--dry-run")
	expect(t, env, exitDone, "exp/deep/c", "cancelled 2\n", "cancel", "exp/", "exp/deep/")
	expect(t, env, exitDone, "", "no tasks whose ids begin with exp/ that have not ended in", "cancel", "exp/")
	expect(t, env, exitCancelled, "exp/a\tsucceeded\t0", "succeeded 1, cancelled 2", "wait", "exp/")
	expect(t, env, exitDone, "exp/b is tried again, attempt 2\n", "tried again 2\n", "retry", "exp/", "--state", "cancelled")
	if info, _, _ := f.get("exp2/d"); info.GetState() != "running" {
		t.Errorf("exp2/d is %s", info.GetState())
	}
}

// TestWaitForAny: the first that ends decides; one that has ended already is it.
func TestWaitForAny(t *testing.T) {
	f, env := startFake(t)
	for _, id := range []string{"a", "b", "c"} {
		expect(t, env, exitDone, id, "", "submit", "--id", id, "--", "sleep")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		expect(t, env, 3, "b\tfailed\t3", "", "wait", "--any", "a", "b", "c")
	}()
	<-f.waits
	f.end("b", task.Failed, failure(3))
	<-done
	expect(t, env, 3, "b\tfailed\t3", "", "wait", "--any", "a", "b")
}

// TestWaitGivesUp: wait --timeout ends with a code of its own, and says what goes on.
func TestWaitGivesUp(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "done", "", "submit", "--id", "done", "--", "true")
	for i := range 7 {
		expect(t, env, exitDone, "s", "", "submit", "--id", fmt.Sprintf("s/%d", i), "--", "sleep")
	}
	expect(t, env, exitWaitOver, "done\tsucceeded", "after 50ms, 1 of 2 tasks had not ended, and goes on: s/0\n", "wait", "--timeout", "0.05", "done", "s/0")
	expect(t, env, exitWaitOver, "", "after 50ms, 7 of 7 tasks had not ended, and go on: s/0 s/1 s/2 s/3 s/4 and 2 more\n", "wait", "--timeout", "0.05", "s/")
	expect(t, env, exitWaitOver, "", "1 of 1 task had not ended, and goes on: s/0\n", "wait", "--any", "--timeout", "0.05", "s/0")
	f.change("s/0", func(t *pb.TaskInfo) {
		t.State, t.Status, t.Held = task.Pending.String(), task.Pending.Wire(), "restored from a backup"
	})
	expect(t, env, exitWaitOver, "", "1 of 1 task had not ended; held until somebody lets it go (dspy-agent queue release ID): s/0\n", "wait", "--timeout", "0.05", "s/0")
	expect(t, env, exitDone, "done\tsucceeded", "", "wait", "--timeout", "0", "done")
	expect(t, env, exitUsage, "", "--timeout", "wait", "--timeout", "soon", "done")
}

// TestManyAreAskedForTogether: of thousands of tasks that have ended, wait and cancel ask in
// a few calls.
func TestManyAreAskedForTogether(t *testing.T) {
	f, env := startFake(t)
	var ids []string
	for i := range 2500 {
		ids = append(ids, fmt.Sprintf("t%d", i))
		f.submit(&pb.SubmitTaskRequest{Id: ids[i], Spec: &pb.TaskSpec{Argv: []string{"true"}}})
	}
	if err := os.WriteFile(filepath.Join(env.Cwd, "ids"), []byte(strings.Join(ids, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"wait", "cancel"} {
		f.looks = nil
		expect(t, env, exitDone, "t2499", "2,500", cmd, "--from-file", "ids")
		if got := fmt.Sprint(f.looks); got != "[1000 1000 500]" || len(f.waits) > 0 {
			t.Errorf("%s: looked %s, waited %d times", cmd, got, len(f.waits))
		}
	}
	expect(t, env, exitNotFound, "", `there is no task "none"`, "wait", "t1", "none", "t2")
}

// TestWaitLooksAhead: those that ended while one was waited for are not waited for one by
// one.
func TestWaitLooksAhead(t *testing.T) {
	f, env := startFake(t)
	args := []string{"wait"}
	for i := range 60 {
		id := fmt.Sprintf("t%d", i)
		f.submit(&pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{Argv: []string{"sleep"}}})
		args = append(args, id)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		expect(t, env, exitDone, "t59\tsucceeded", "", args...)
	}()
	<-f.waits
	f.mu.Lock()
	for _, info := range f.tasks {
		f.endLocked(info, task.Succeeded, &pb.Outcome{})
	}
	f.mu.Unlock()
	<-done
	if got := fmt.Sprint(f.looks); got != "[60 16 32 11]" || len(f.waits) > 0 {
		t.Errorf("looked %s, waited %d times more", got, len(f.waits))
	}
}
