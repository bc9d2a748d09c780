package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func TestHTTPTask(t *testing.T) {
	f := setupHTTP(t)
	f.submit("sweep/lr=0.1")
	want := func(status, state string) map[string]any {
		t.Helper()
		got := f.ask("GET", "/tasks/sweep/lr=0.1", "")
		if got.status != 200 || got.json["status"] != status || got.json["state"] != state || got.json["task_id"] != "sweep/lr=0.1" {
			t.Fatalf("got %d %s, want %s", got.status, got.body, status)
		}
		return got.json
	}
	if got := want("pending", "pending"); got["error"] != "" || len(got["result"].(map[string]any)) != 0 {
		t.Errorf("a waiting task: %v", got)
	}
	f.begin("sweep/lr=0.1")
	want("running", "running")
	f.end("sweep/lr=0.1", 0, `{"name":"<x>","n":1.50,"big":12345678901234567890,"list":[1,{"a":null}],"class":"mine","yes":true}`)
	got := f.ask("GET", "/tasks/sweep%2Flr=0.1", "")
	var body struct {
		Error  string
		Result map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || body.Error != "" {
		t.Fatalf("%v: %s", err, got.body)
	}
	for key, want := range map[string]string{
		"n": "1.50", "big": "12345678901234567890", "list": `[1,{"a":null}]`, "yes": "true",
		"class": `"cpu_short"`, "attempt": "1", "exit_code": "0", "backend": `"process"`,
	} {
		if string(body.Result[key]) != want {
			t.Errorf("result[%s] is %s, want %s", key, body.Result[key], want)
		}
	}
	result := want("completed", "succeeded")["result"].(map[string]any)
	if result["name"] != "<x>" || !strings.Contains(result["data_json"].(string), `"class":"mine"`) {
		t.Errorf("got %v", result)
	}
	if strings.Contains(got.body, "<") {
		t.Errorf("text of a task can be taken for HTML: %s", got.body)
	}
}

func TestHTTPTaskFailures(t *testing.T) {
	f := setupHTTP(t)
	f.run("bad", 3, "")
	f.run("text", 0, "{\"bytes\":\"\xff\"}")
	f.submit("cancelled")
	if _, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "cancelled", Reason: "wrong data"}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"bad": "exit code 3", "cancelled": "wrong data"} {
		got := f.ask("GET", "/tasks/"+id, "")
		if why, _ := got.json["error"].(string); got.json["status"] != "failed" || !strings.Contains(why, want) {
			t.Errorf("%s: %s", id, got.body)
		}
	}
	if got := f.ask("GET", "/tasks/text", ""); got.json == nil || got.json["result"].(map[string]any)["bytes"] != "\uFFFD" {
		t.Errorf("got %s", got.body)
	}
}

// TestHTTPUnknownTask: the answer helps a program, not a person at a command line.
func TestHTTPUnknownTask(t *testing.T) {
	f := setupHTTP(t)
	for _, path := range []string{"/tasks/nope", "/slurm/status/nope"} {
		got := f.ask("GET", path, "")
		if got.status != 404 || !strings.Contains(got.body, "no such task: nope; the answer to POST /tasks") || strings.Contains(got.body, "dspy-agent") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

// TestHTTPQueueStatusAgreesWithTheMetrics asks three doors for the same numbers.
func TestHTTPQueueStatusAgreesWithTheMetrics(t *testing.T) {
	f := setupHTTP(t)
	f.run("ok", 0, "")
	f.run("bad", 1, "")
	f.submit("waits")
	got := f.ask("GET", "/queue/status", "")
	if got.body != `{"pending":1,"done":2,"submitted":3,"processed":2,"completed":1}`+"\n" {
		t.Errorf("got %s", got.body)
	}
	rpc, err := f.GetMetrics(f.ctx, &pb.GetMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	text := f.ask("GET", "/metrics", "").body
	for name, want := range map[string]string{"queue_depth": "1", "queue_tasks_submitted_total": "3", "queue_tasks_processed_total": "2", "queue_tasks_completed_total": "1", "env_error_rate": "0.5"} {
		if !strings.Contains(text, "\n"+name+" "+want+"\n") {
			t.Errorf("no %s %s in\n%s", name, want, grep(text, name))
		}
		if v, _ := json.Marshal(rpc.GetMetrics()[name]); string(v) != want {
			t.Errorf("GetMetrics says %s = %s, want %s", name, v, want)
		}
	}
}
