package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestPythonGRPC has a program come in that knows nothing of us: grpc.aio of
// Debian's package, by each way to write the address.
func TestPythonGRPC(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "grpc.aio", "google.protobuf")
	d := openDoors(t)
	descriptors := descriptorSet(t)
	addrs := append(bothFamilies(t, d.grpc), net.JoinHostPort("localhost", portOf(t, d.grpc)))
	for i, addr := range addrs {
		cmd := exec.CommandContext(t.Context(), interpreter, "testdata/field_grpc.py", descriptors, addr, fmt.Sprintf("py%d", i))
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("at %s: %v\n%s", addr, err, out)
		}
		t.Logf("at %s: %s", addr, bytes.TrimSpace(out))
	}
	for id, info := range d.all() {
		if info.GetSubmittedVia() != "grpc" {
			t.Errorf("%s came by %q", id, info.GetSubmittedVia())
		}
	}
}

// descriptorSet is a file that stands in for generated stubs.
func descriptorSet(t *testing.T) (path string) {
	t.Helper()
	text, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(pb.File_orchestrator_v1_orchestrator_proto),
	}})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "descriptors")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// An httpCall is a request, and what the answer has to have in it.
type httpCall struct {
	route
	at    string // the path, when it has parameters
	body  string
	want  int
	words []string // of the answer's body
}

// httpCalls are one or more for each call of docs/http.md. id is what the ids of
// their tasks begin with.
func httpCalls(id string) []httpCall {
	get, post, put, head := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodHead
	calls := []httpCall{
		{route: route{get, "/health"}, want: 200, words: []string{`"status":"ok"`, `"services"`}},
		{route: route{post, "/queue/submit"}, body: `{"id": "` + id + `-1", "class": "cpu_short", "priority": 3, "payload": {"message": "hello", "list": [1, 2]}}`,
			want: 200, words: []string{`"ok":true`, `"id":"` + id + `-1"`}},
		{route: route{post, "/queue/submit"}, body: `{"payload": {"message": "without an id"}}`, want: 200, words: []string{`"ok":true`}},
		{route: route{post, "/queue/submit"}, body: `{"class": "no_such_class"}`, want: 400, words: []string{`"ok":false`, `no_such_class`}},
		{route: route{post, "/queue/submit"}, body: `[]`, want: 400, words: []string{`"ok":false`}},
		{route: route{post, "/tasks"}, body: `{"id": "` + id + `-2", "payload": {"command": "true"}}`, want: 200, words: []string{`"task_id":"` + id + `-2"`}},
		{route: route{post, "/tasks"}, body: `{"id": "` + id + `-2", "payload": {"command": "false"}}`, want: 409, words: []string{`"error"`}},
		{route: route{get, "/tasks/{id}"}, at: "/tasks/" + id + "-1", want: 200, words: []string{`"status":`, `"error":""`, `"result":`}},
		{route: route{get, "/tasks/{id}"}, at: "/tasks/nobody", want: 404, words: []string{`"error"`}},
		{route: route{get, "/queue/status"}, want: 200, words: []string{`"pending":`, `"done":`, `"submitted":`, `"processed":`, `"completed":`}},
		{route: route{get, "/slurm/status/{task_id}"}, at: "/slurm/status/nobody", want: 404, words: []string{`"error"`}},
		{route: route{get, "/metrics"}, want: 200, words: []string{
			"\nenv_queue_depth ", "\nqueue_depth ", "\nqueue_tasks_submitted_total ", "\nqueue_tasks_processed_total ",
			"\nqueue_tasks_completed_total ", "\ngpu_wait_seconds ", "\nenv_error_rate ", "\norchestrator_concurrency_limit ",
			"\norchestrator_inflight_tasks ", "\nslurm_jobs_submitted_total ", "\nslurm_jobs_completed_total ",
			"\nslurm_jobs_failed_total ", "\nworkflows_total ", "\nevents_published_total ",
		}},
	}
	for _, r := range []route{
		{get, "/workflows"}, {post, "/workflows"}, {get, "/workflows/{id}"}, {put, "/workflows/{id}"}, {get, "/workflows/{id}/history"},
		{get, "/workflows/{id}/runs"}, {post, "/workflows/{id}/runs"}, {get, "/workflow-runs/{run_id}"},
	} {
		c := httpCall{route: r, at: filled(r.Path), want: 501, words: []string{`"error"`}}
		if r.Method != get {
			c.body = `{}`
		}
		calls = append(calls, c)
	}
	for _, c := range calls {
		if c.Method == get {
			c.Method, c.words = head, nil
			calls = append(calls, c)
		}
	}
	return calls
}

// An httpAnswer is what came back.
type httpAnswer struct {
	Status     int
	Type, Body string
}

// TestPythonRequestsAndCurl sends every HTTP call that the daemon lists, by the
// programs that are used for it.
func TestPythonRequestsAndCurl(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "requests")
	curl := wantTools(t, "which scripts of the field call", "curl")
	d := openDoors(t)
	tried := map[route]bool{}
	for _, c := range httpCalls("") {
		tried[c.route] = true
	}
	for _, r := range d.routes() {
		if !tried[r] {
			t.Errorf("the daemon lists %s, which is tried by no call of httpCalls", r)
		}
	}
	for i, addr := range bothFamilies(t, d.http) {
		requests, byCurl := fmt.Sprintf("requests%d", i), fmt.Sprintf("curl%d", i)
		d.checkAnswers(t, requests, httpCalls(requests), sentByPython(t, interpreter, "http://"+addr, httpCalls(requests)))
		d.checkAnswers(t, byCurl, httpCalls(byCurl), sentByCurl(t, curl, "http://"+addr, httpCalls(byCurl)))
	}
}

func (d *doors) checkAnswers(t *testing.T, client string, calls []httpCall, answers []httpAnswer) {
	t.Helper()
	if len(answers) != len(calls) {
		t.Fatalf("%s: %d answers to %d calls", client, len(answers), len(calls))
	}
	for i, got := range answers {
		c := calls[i]
		if got.Status != c.want {
			t.Errorf("%s: %s %s is answered with %d, want %d: %s", client, c.route, c.body, got.Status, c.want, got.Body)
		}
		wantType := "application/json"
		switch {
		case c.Path == "/metrics":
			wantType = "text/plain"
		case got.Status >= http.StatusBadRequest:
			wantType = "application/problem+json"
		}
		if !strings.HasPrefix(got.Type, wantType) {
			t.Errorf("%s: %s is answered with a body of type %q, want %s", client, c.route, got.Type, wantType)
		}
		// JSON may have spaces where it likes.
		body := strings.ReplaceAll(strings.ReplaceAll(got.Body, `": `, `":`), `, "`, `,"`)
		for _, word := range c.words {
			if !strings.Contains(body, word) {
				t.Errorf("%s: %s: the answer lacks %s: %s", client, c.route, word, got.Body)
			}
		}
	}
	d.eventually(time.Minute, client+": the tasks have ended well", func() bool {
		all := d.all()
		return all[client+"-1"].GetState() == "succeeded" && all[client+"-2"].GetState() == "succeeded"
	})
	if via := d.all()[client+"-1"].GetSubmittedVia(); via != "http" {
		t.Errorf("%s: the task came by %q", client, via)
	}
}

func (c httpCall) url(base string) string {
	if c.at != "" {
		return base + c.at
	}
	return base + c.Path
}

func sentByPython(t *testing.T, interpreter, base string, calls []httpCall) (answers []httpAnswer) {
	t.Helper()
	type request struct {
		Method string  `json:"method"`
		URL    string  `json:"url"`
		Body   *string `json:"body,omitempty"`
	}
	var all []request
	for _, c := range calls {
		r := request{Method: c.Method, URL: c.url(base)}
		if c.body != "" {
			r.Body = &c.body
		}
		all = append(all, r)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, "testdata/field_http.py")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("requests: %v\n%s", err, errs.String())
	}
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return answers
}

// sentByCurl sends what people type: curl URL, curl -d BODY URL.
func sentByCurl(t *testing.T, curl, base string, calls []httpCall) (answers []httpAnswer) {
	t.Helper()
	const mark = "\n%{http_code} %{content_type}"
	for _, c := range calls {
		args := []string{"-sS", "-g", "--max-time", "60", "-w", mark}
		switch c.Method {
		case http.MethodHead:
			args = append(args, "--head", "-o", "/dev/null")
		case http.MethodPut:
			args = append(args, "-X", c.Method)
		}
		if c.body != "" {
			args = append(args, "-d", c.body)
		}
		cmd := exec.CommandContext(t.Context(), curl, append(args, c.url(base))...)
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("curl %v: %v", args, err)
		}
		end := bytes.LastIndexByte(out, '\n')
		got := httpAnswer{Body: string(out[:end])}
		if _, err := fmt.Sscanf(string(out[end+1:]), "%d %s", &got.Status, &got.Type); err != nil {
			t.Fatalf("curl printed %q: %v", out, err)
		}
		answers = append(answers, got)
	}
	return answers
}
