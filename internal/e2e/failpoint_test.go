package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	_ "github.com/dspy-agent/dspy-agent/internal/engine" // declares its failpoints
	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	_ "github.com/dspy-agent/dspy-agent/internal/process"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	_ "github.com/dspy-agent/dspy-agent/queue"
)

// unreachable are the failpoints that the scenario below does not come by, each
// with the reason and where it is tested instead.
var unreachable = map[string]string{
	"queue/could_not_start/": "needs a machine out of processes; queue tests the commit, backendtest the report",
	"queue/vanished/":        "comes from killing the supervisor; see the storms",
	"queue/noted/":           "no backend of this release changes its word about a state",
	"queue/held/":            "only a restored queue holds tasks back",
	"queue/retried/":         "TestRetryByPersonSurvives",
	"queuecare/":             "no daemon comes there; TestCareFailpoints of queue",
	"dropfolder/":            "its tasks come by the socket; TestDieAtEveryStep of dropfolder",
	"lease/claimed":          "nobody is followed; TestDeathWhileTheLeaseChangesHands of queue",
	"lease/released":         "the daemon does not leave; the same",
	"takeover/silent":        "nobody is taken over; the same",
	"takeover/placed":        "the same",
	"takeover/waited":        "the same",
	"takeover/copied":        "the same",
	"takeover/checked":       "the same",
}

// TestDieAtEveryStep kills the process that comes to it at each failpoint: in
// every commit that carries an event of some kind, and between every two steps
// of engine, backend and supervisor. Then everything is started again, and the
// scenario has to end as if nothing had happened.
func TestDieAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, name := range failpoint.Names() {
		if skipped(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dieAt(t, name)
		})
	}
}

func skipped(name string) bool {
	for prefix := range unreachable {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func dieAt(t *testing.T, name string) {
	w := newWorld(t, binaries.failpoint)
	once := filepath.Join(w.workspace, "died")
	arm := []string{failpoint.Env + "=" + name, failpoint.EnvOnce + "=" + once}
	if !w.start(arm...) {
		w.mustStart(arm...) // it died while it opened the queue
	}
	stop := w.keepAlive(arm)
	w.scenario()
	all := w.settle(time.Minute)
	stop()
	if !exists(once) {
		t.Fatalf("nothing died: the scenario does not come by %s", name)
	}
	w.checkScenario(all, strings.HasPrefix(name, "supervisor"))
}

// keepAlive starts the daemon again whenever it has died.
func (w *world) keepAlive(env []string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.daemon().dead:
			}
			if _, err := w.launch(env...); err != nil {
				w.Error(err)
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// scenario submits tasks that together take every edge of the table.
func (w *world) scenario() {
	mark := `echo "$DSPY_TASK_ID.$DSPY_TASK_ATTEMPT" >> ` + w.workspace + `/ran; `
	retry := func(r *pb.SubmitTaskRequest) { r.Spec.Retries, r.Spec.BackoffMs = 1, 10 }
	limit := func(r *pb.SubmitTaskRequest) { r.Spec.TimeoutMs, r.Spec.GraceMs = 300, 300 }
	after := func(id, when string) func(*pb.SubmitTaskRequest) {
		return func(r *pb.SubmitTaskRequest) {
			r.Spec.After = append(r.Spec.After, &pb.Dependency{Id: id, When: when})
		}
	}
	// In one call, so that none has ended before those that wait for it are there.
	w.submit(
		submission("ok", mark+`echo '{"n": 1}' > "$DSPY_RESULT_FILE"`),
		submission("flaky", mark+`exit $((2 - DSPY_TASK_ATTEMPT))`, retry),
		submission("bad", mark+`exit 4`),
		submission("slow", mark+`exec sleep 60`, limit),
		submission("cancelled", mark+`exec sleep 60`),
		submission("after-ok", mark, after("ok", "ok"), after("flaky", "ok")),
		submission("after-bad", mark, after("bad", "ok")),
		submission("never", mark, after("cancelled", "any")),
	)
	w.cancel("never")
	w.eventually(time.Minute, "the task to be cancelled runs", func() bool {
		return w.runs()["cancelled.1"] > 0 || w.ended("cancelled")
	})
	w.cancel("cancelled")
}

func (w *world) ended(id string) bool {
	var state string
	w.persistently(func(ctx context.Context, c *api.Client) error {
		t, err := c.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
		state = t.GetState()
		return err
	})
	return state == "cancelled" || state == "lost" || state == "failed"
}

func (w *world) cancel(id string) {
	w.persistently(func(ctx context.Context, c *api.Client) error {
		_, err := c.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: id})
		if err != nil && w.ended(id) {
			return nil // it was faster
		}
		return err
	})
}

// checkScenario compares how everything ended. Only where the supervisor itself
// died may an end have gone unseen: the task is lost then, and says so.
func (w *world) checkScenario(all map[string]*pb.TaskInfo, mayLose bool) {
	w.Helper()
	want := map[string]string{
		"ok": "succeeded", "flaky": "succeeded", "bad": "failed", "slow": "failed", "cancelled": "cancelled",
		"after-ok": "succeeded", "after-bad": "failed", "never": "cancelled",
	}
	anyLost := false
	for _, info := range all {
		anyLost = anyLost || info.GetState() == "lost"
	}
	for id, state := range want {
		info := all[id]
		switch got := info.GetState(); {
		case got == state:
		case mayLose && got == "lost" && info.GetOutcome().GetMessage() != "":
		case mayLose && anyLost && strings.HasPrefix(id, "after-") && info.GetOutcome().GetFailureClass() == "dependency_failed":
		default:
			w.Errorf("%s ended as %s, want %s: %s", id, got, state, info.GetOutcome().GetMessage())
		}
	}
	for run, n := range w.runs() {
		if n > 1 {
			w.Errorf("%s ran %d times", run, n)
		}
	}
	if all["ok"].GetState() == "succeeded" {
		w.persistently(func(ctx context.Context, c *api.Client) error {
			t, err := c.GetTask(ctx, &pb.GetTaskRequest{TaskId: "ok"})
			if err == nil && strings.TrimSpace(string(t.GetResultJson())) != `{"n": 1}` {
				w.Errorf("the result of ok is %q", t.GetResultJson())
			}
			return err
		})
	}
}

// TestRetryByPersonSurvives kills the daemon around the commit of a retry that a
// person asked for. Asked again, there is still one more attempt only.
func TestRetryByPersonSurvives(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"queue/retried/before-commit", "queue/retried/after-commit"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, binaries.failpoint)
			once := filepath.Join(w.workspace, "died")
			arm := []string{failpoint.Env + "=" + name, failpoint.EnvOnce + "=" + once}
			w.mustStart(arm...)
			stop := w.keepAlive(arm)
			w.submit(submission("a", `echo "$DSPY_TASK_ID.$DSPY_TASK_ATTEMPT" >> `+w.workspace+`/ran; exit $((2 - DSPY_TASK_ATTEMPT))`))
			w.await("a")
			w.persistently(func(ctx context.Context, c *api.Client) error {
				if t, err := c.GetTask(ctx, &pb.GetTaskRequest{TaskId: "a"}); err != nil || t.GetAttempt() > 1 {
					return err // it was stored before the daemon died
				}
				_, err := c.RetryTask(ctx, &pb.RetryTaskRequest{TaskId: "a"})
				return err
			})
			info := w.await("a")
			stop()
			if !exists(once) {
				t.Fatal("nothing died")
			}
			if info.GetState() != "succeeded" || info.GetAttempt() != 2 {
				t.Errorf("it %s, attempt %d", info.GetState(), info.GetAttempt())
			}
			for _, run := range []string{"a.1", "a.2"} {
				if n := w.runs()[run]; n != 1 {
					t.Errorf("%s ran %d times", run, n)
				}
			}
		})
	}
}
