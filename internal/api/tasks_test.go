package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func TestUnknownAndEmptyIDs(t *testing.T) {
	f := setup(t)
	calls := map[string]func(id string) error{
		"GetTaskStatus": func(id string) error {
			_, err := f.GetTaskStatus(f.ctx, &pb.GetTaskStatusRequest{TaskId: id})
			return err
		},
		"GetTask":  func(id string) error { _, err := f.GetTask(f.ctx, &pb.GetTaskRequest{TaskId: id}); return err },
		"WaitTask": func(id string) error { _, err := f.WaitTask(f.ctx, &pb.WaitTaskRequest{TaskId: id}); return err },
		"CancelTask": func(id string) error {
			_, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: id})
			return err
		},
		"RetryTask": func(id string) error { _, err := f.RetryTask(f.ctx, &pb.RetryTaskRequest{TaskId: id}); return err },
		"ExplainTask": func(id string) error {
			_, err := f.ExplainTask(f.ctx, &pb.ExplainTaskRequest{TaskId: id})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			wantCode(t, call("nobody"), task.CodeNotFound)
			wantCode(t, call(""), task.CodeInvalid)
		})
	}
}

func TestStatusOfATask(t *testing.T) {
	f := setup(t)
	f.submit("a")
	status := func(want string) *pb.GetTaskStatusResponse {
		t.Helper()
		got, err := f.GetTaskStatus(f.ctx, &pb.GetTaskStatusRequest{TaskId: "a"})
		if err != nil || got.GetStatus() != want {
			t.Fatalf("got %v, %v; want %s", got, err, want)
		}
		return got
	}
	if got := status("pending"); len(got.GetResult()) > 0 {
		t.Errorf("a waiting task has a result: %v", got)
	}
	f.begin("a")
	status("running")
	f.end("a", 0, `{"name":"x","n":1.5,"list":[1, 2],"class":"mine","nil":null}`)
	got := status("completed").GetResult()
	for key, want := range map[string]string{
		"name": "x", "n": "1.5", "list": "[1, 2]", "nil": "null", "class": "cpu_short", "attempt": "1", "exit_code": "0", "backend": "process",
		"data_json": `{"name":"x","n":1.5,"list":[1, 2],"class":"mine","nil":null}`,
	} {
		if got[key] != want {
			t.Errorf("result[%s] is %q, want %q", key, got[key], want)
		}
	}
	if _, ok := got["duration_ms"]; !ok {
		t.Error("no duration_ms")
	}
}

func TestFailuresSayWhy(t *testing.T) {
	f := setup(t)
	f.run("bad", 3, "")
	f.submit("cancelled")
	if _, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "cancelled", Reason: "wrong data"}); err != nil {
		t.Fatal(err)
	}
	f.submit("lost")
	f.begin("lost")
	f.apply("lost", task.Event{Kind: task.EventVanished, Text: "gone with the machine"}, nil)
	for id, want := range map[string]string{"bad": "exit code 3", "cancelled": "wrong data", "lost": "gone with the machine"} {
		got, err := f.GetTaskStatus(f.ctx, &pb.GetTaskStatusRequest{TaskId: id})
		if err != nil || got.GetStatus() != "failed" || !strings.Contains(got.GetError(), want) {
			t.Errorf("%s: %v, %v; want failed and %q", id, got, err, want)
		}
	}
}

func TestCancelSaysWho(t *testing.T) {
	f := setup(t)
	f.submit("a")
	f.begin("a")
	reply, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "a", Reason: "enough"})
	if err != nil || !reply.GetTask().GetCancelAsked() {
		t.Fatalf("got %v, %v", reply, err)
	}
	if by := f.lookup("a").Status().Cancel.By; !strings.HasPrefix(by, "uid ") {
		t.Errorf("cancelled by %q", by)
	}
}

func TestRetryAndExplain(t *testing.T) {
	f := setup(t)
	f.submit("a")
	_, err := f.RetryTask(f.ctx, &pb.RetryTaskRequest{TaskId: "a"})
	wantCode(t, err, task.CodeConflict)
	f.begin("a")
	f.end("a", 1, "")
	retried, err := f.RetryTask(f.ctx, &pb.RetryTaskRequest{TaskId: "a"})
	if err != nil || retried.GetTask().GetAttempt() != 2 || len(retried.GetTask().GetPast()) != 1 {
		t.Errorf("got %v, %v", retried, err)
	}
	why, err := f.ExplainTask(f.ctx, &pb.ExplainTaskRequest{TaskId: "a"})
	if err != nil || why.GetReason() == "" || why.GetTask().GetId() != "a" {
		t.Errorf("got %v, %v", why, err)
	}
}

func TestWait(t *testing.T) {
	f := setup(t)
	f.run("over", 0, `{"a":1}`)
	info, err := f.WaitTask(f.ctx, &pb.WaitTaskRequest{TaskId: "over"})
	if err != nil || info.GetState() != "succeeded" || string(info.GetResultJson()) != `{"a":1}` || info.GetLogPath() != "/out/over/1" {
		t.Fatalf("got %v, %v", info, err)
	}

	f.submit("coming")
	const waiters = 20
	ended := make(chan error, waiters)
	for range waiters {
		go func() {
			info, err := f.WaitTask(f.ctx, &pb.WaitTaskRequest{TaskId: "coming"})
			if err == nil && info.GetState() != "failed" {
				err = fmt.Errorf("it is %s", info.GetState())
			}
			ended <- err
		}()
	}
	f.begin("coming")
	f.end("coming", 1, "")
	for range waiters {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestWaitEndsWithTheDeadline(t *testing.T) {
	f := setup(t)
	f.submit("a")
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := f.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: "a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestList(t *testing.T) {
	f := setup(t)
	for i := range 5 {
		f.submit(fmt.Sprintf("p%d", i))
	}
	f.run("ok", 0, "")
	f.run("bad", 1, "")
	list := func(req *pb.ListTasksRequest) (ids []string) {
		t.Helper()
		for {
			reply, err := f.ListTasks(f.ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range reply.GetTasks() {
				ids = append(ids, info.GetId())
			}
			if req.BeforeSeq = reply.GetNextBeforeSeq(); req.BeforeSeq == 0 {
				return ids
			}
		}
	}
	for _, tc := range []struct {
		req  *pb.ListTasksRequest
		want string
	}{
		{&pb.ListTasksRequest{}, "bad ok p4 p3 p2 p1 p0"},
		{&pb.ListTasksRequest{Limit: 3}, "bad ok p4 p3 p2 p1 p0"},
		{&pb.ListTasksRequest{Limit: 7}, "bad ok p4 p3 p2 p1 p0"},
		{&pb.ListTasksRequest{Limit: 10_000}, "bad ok p4 p3 p2 p1 p0"},
		{&pb.ListTasksRequest{States: []string{"completed"}}, "ok"},
		{&pb.ListTasksRequest{States: []string{"succeeded", "failed"}}, "bad ok"},
		{&pb.ListTasksRequest{States: []string{"pending"}, Limit: 2}, "p4 p3 p2 p1 p0"},
		{&pb.ListTasksRequest{Class: "cpu_long"}, ""},
	} {
		if got := strings.Join(list(tc.req), " "); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.req, got, tc.want)
		}
	}
	for _, bad := range []*pb.ListTasksRequest{{Limit: -1}, {Limit: 10_001}, {States: []string{"odd"}}} {
		_, err := f.ListTasks(f.ctx, bad)
		wantCode(t, err, task.CodeInvalid)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	f := setup(t)
	f.submit("waits")
	f.submit("runs")
	f.begin("runs")
	f.run("ok", 0, "")
	f.run("bad", 1, "")
	want := map[string]float64{
		"env_queue_depth": 1, "gpu_wait_seconds": 0, "tasks_pending": 1, "tasks_running": 1, "tasks_completed": 1,
		"tasks_failed": 1, "task_error_rate": 0.5, "concurrency_limit": 4, "inflight_tasks": 1,
	}
	reply, err := f.GetMetrics(f.ctx, &pb.GetMetricsRequest{})
	if err != nil || reply.GetTimestamp() == 0 {
		t.Fatalf("got %v, %v", reply, err)
	}
	for name, v := range want {
		if got, ok := reply.GetMetrics()[name]; !ok || got != v {
			t.Errorf("%s is %v, want %v", name, got, v)
		}
	}
	some, err := f.GetMetrics(f.ctx, &pb.GetMetricsRequest{MetricNames: []string{"tasks_failed", "no_such"}})
	if err != nil || len(some.GetMetrics()) != 1 || some.GetMetrics()["tasks_failed"] != 1 {
		t.Errorf("got %v, %v", some, err)
	}
	health, err := f.Health(f.ctx, &pb.HealthRequest{})
	if err != nil || !health.GetHealthy() || health.GetVersion() != "1.2.3" || health.GetServices()["queue"] != "ok" {
		t.Errorf("got %v, %v", health, err)
	}
	if k := health.GetClasses(); len(k) != 1 || k[0].GetStates()["succeeded"] != 1 {
		t.Errorf("classes are %v", k)
	}
}

func TestWorkflowsAreNotThereYet(t *testing.T) {
	f := setup(t)
	_, err := f.CreateWorkflow(f.ctx, &pb.CreateWorkflowRequest{})
	wantCode(t, err, task.CodeUnsupported)
	_, err = f.StartWorkflowRun(f.ctx, &pb.StartWorkflowRunRequest{})
	wantCode(t, err, task.CodeUnsupported)
	stream, err := f.StreamWorkflowStatus(f.ctx, &pb.StreamWorkflowStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantCode(t, err, task.CodeUnsupported)
}

func TestEveryCodeReachesTheClient(t *testing.T) {
	var code task.Code
	f := setup(t, func(o *api.Options) { o.Mover = failing{&code} })
	for code = task.CodeInternal; code <= task.CodeUnsupported; code++ {
		_, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "x"})
		wantCode(t, err, code)
		if err.Error() != "it is "+code.String() {
			t.Errorf("%s: the text became %q", code, err)
		}
	}
}

type failing struct{ code *task.Code }

func (m failing) Cancel(context.Context, string, string, string) (task.Task, error) {
	return task.Task{}, task.Errorf(*m.code, "it is %s", *m.code)
}
func (m failing) Retry(context.Context, string, string) (task.Task, error) { return task.Task{}, nil }
func (m failing) Waits() (map[task.Seq]string, error)                      { return nil, nil }

func (m failing) Explain(context.Context, string) (string, task.Task, error) {
	return "", task.Task{}, nil
}

// TestGetTasks: many at once, in the order asked for, and those that there are not apart.
func TestGetTasks(t *testing.T) {
	f := setup(t)
	for _, id := range []string{"exp/a", "exp/b", "c"} {
		f.submit(id)
	}
	f.begin("exp/b")
	f.end("exp/b", 3, "")
	got, err := f.GetTasks(f.ctx, &pb.GetTasksRequest{TaskIds: []string{"c", "none", "exp/b", "no id", ""}})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, info := range got.GetTasks() {
		said = append(said, info.GetId()+" "+info.GetState())
	}
	if s := strings.Join(said, ", "); s != "c pending, exp/b failed" || fmt.Sprint(got.GetUnknown()) != "[none no id ]" {
		t.Errorf("got %s, unknown %q", s, got.GetUnknown())
	}
	_, err = f.GetTasks(f.ctx, &pb.GetTasksRequest{TaskIds: make([]string, 10_001)})
	wantCode(t, err, task.CodeInvalid)
	list, err := f.ListTasks(f.ctx, &pb.ListTasksRequest{IdPrefix: "exp/"})
	if err != nil || len(list.GetTasks()) != 2 || list.GetTasks()[0].GetId() != "exp/b" {
		t.Errorf("exp/ lists %v, %v", list.GetTasks(), err)
	}
}
