package api_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestHTTPSubmit(t *testing.T) {
	f := setupHTTP(t)
	got := f.ask("POST", "/queue/submit", `{"id":"a","class":"cpu_long","priority":-3,"payload":{"command":["echo","hi"],"n":1.50,"list":[1,{"x":null}],"s":"007"}}`)
	if got.status != 200 || got.body != `{"ok":true,"id":"a"}`+"\n" {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	spec := f.lookup("a").Spec
	if spec.Class != "cpu_long" || spec.Priority != -3 || spec.Via != "http" || spec.SubmitUID != uint32(os.Geteuid()) ||
		strings.Join(spec.Argv, " ") != "echo hi" || spec.Dir != "/w" {
		t.Errorf("got %+v", spec)
	}
	if want := `{"command":["echo","hi"],"list":[1,{"x":null}],"n":1.50,"s":"007"}`; string(spec.Payload) != want {
		t.Errorf("the payload is %s, want %s", spec.Payload, want)
	}
	again := f.ask("POST", "/tasks", `{"id":"a","class":"cpu_long","priority":-3,"payload":{"s":"007","list":[1,{"x":null}],"n":1.50,"command":["echo","hi"]}}`)
	if again.status != 200 || again.body != `{"task_id":"a"}`+"\n" {
		t.Errorf("submitted again: %d %s", again.status, again.body)
	}
}

// TestHTTPSubmitIsTheSameAsGRPC submits one task through both doors.
func TestHTTPSubmitIsTheSameAsGRPC(t *testing.T) {
	f := setupHTTP(t)
	for id, body := range map[string]string{
		"echo":  `{"id":"echo","payload":{"message":"hello"}}`,
		"none":  `{"id":"none"}`,
		"null":  `{"id":"null","class":null,"priority":null,"payload":null}`,
		"shell": `{"id":"shell","class":"","payload":{"command":"echo $HOME"}}`,
	} {
		if got := f.ask("POST", "/tasks", body); got.status != 200 || got.json["task_id"] != id {
			t.Errorf("%s: %d %s", id, got.status, got.body)
		}
	}
	if f.lookup("echo").Spec.Builtin == "" || f.lookup("none").Spec.Builtin == "" || f.lookup("null").Spec.Builtin == "" || f.lookup("shell").Spec.Argv[2] != "echo $HOME" {
		t.Error("something else is run than over gRPC")
	}
	made := f.ask("POST", "/queue/submit", `{}`)
	if id, _ := made.json["id"].(string); made.status != 200 || id == "" || f.lookup(id).Spec.Class != "cpu_short" {
		t.Errorf("got %d %s", made.status, made.body)
	}
}

func TestHTTPSubmitTakesAnyContentType(t *testing.T) {
	f := setupHTTP(t)
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream", ""} {
		if got := f.ask("POST", "/tasks", `{"payload":{"k":"v"}}`, "Content-Type: "+kind); got.status != 200 {
			t.Errorf("%s: %d %s", kind, got.status, got.body)
		}
	}
	got := f.ask("POST", "/tasks", "--x\r\n", "Content-Type: multipart/form-data; boundary=x")
	wantProblem(t, got, 415, "invalid", "--json instead of -F")
	wantProblem(t, f.ask("POST", "/tasks", "\x1f\x8b", "Content-Encoding: gzip"), 415, "invalid", "gzip")
}

func TestHTTPSubmitRefusals(t *testing.T) {
	f := setupHTTP(t, func(o *rpc.HTTPOptions) { o.MaxBody = 1 << 20 })
	f.submit("taken")
	deep := `{"payload":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100) + `}`
	wide := `{"payload":{` + manyKeys(10_001) + `}}`
	for _, tc := range []struct {
		name, body string
		status     int // of POST /tasks; POST /queue/submit says 400 for 409 and 501, too
		code       string
		words      string
	}{
		{"empty", "", 400, "invalid", "the body is empty"},
		{"blank", " \n", 400, "invalid", "the body is empty"},
		{"broken", "{\n  \"id\": \"a\",\n  oops\n}", 400, "invalid", "(line 3, column 3)"},
		{"half", `{"id": "a"`, 400, "invalid", "unexpected end of JSON input"},
		{"a comma too many", `{"id": "a",}`, 400, "invalid", "(line 1, column 12)"},
		{"garbage behind", `{"id": "a"} x`, 400, "invalid", "after top-level value (line 1, column 13)"},
		{"two documents", `{"id": "a"}{"id": "b"}`, 400, "invalid", "(line 1, column 12)"},
		{"not UTF-8", "{\"id\": \"ä\xff\"}", 400, "invalid", "is not UTF-8 there (line 1, column 10)"},
		{"not UTF-8 in the payload", "{\"payload\": {\"a\": \"\xc3\"}}", 400, "invalid", "is not UTF-8 there"},
		{"an array", ` [{"id": "a"}]`, 400, "invalid", "has to begin with { (line 1, column 2)"},
		{"a text", `"x"`, 400, "invalid", "has to begin with {"},
		{"null", `null`, 400, "invalid", "has to begin with {"},
		{"a key twice", `{"id": "a", "id": "b"}`, 400, "invalid", `the key "id" twice in one object (line 1, column 13)`},
		{"a key twice, escaped", `{"id": "a", "\u0069d": "b"}`, 400, "invalid", `the key "id" twice`},
		{"a key twice below", `{"payload": {"a": [{"b": 1, "b": 2}]}}`, 400, "invalid", `the key "b" twice`},
		{"deep", deep, 400, "invalid", "nested more than 100 deep"},
		{"very deep", strings.Repeat("[", 200_000), 400, "invalid", "is not valid JSON"},
		{"wide", wide, 400, "invalid", "more than 10000 members"},
		{"large", `{"payload": {"a": "` + strings.Repeat("x", 1<<20) + `"}}`, 413, "too_large", "larger than 1048576 bytes"},

		{"id is a number", `{"id": 7}`, 400, "invalid", `"id" is a number; it has to be a text`},
		{"id is bad", `{"id": "a b"}`, 400, "invalid", "not allowed"},
		{"class is an array", `{"class": []}`, 400, "invalid", `"class" is an array`},
		{"class is unknown", `{"class": "odd"}`, 400, "invalid", "unknown class"},
		{"class comes later", `{"class": "gpu"}`, 501, "unsupported", "GPUs come later"},
		{"priority is text", `{"priority": "5"}`, 400, "invalid", "without quotes"},
		{"priority is broken", `{"priority": 1.5}`, 400, "invalid", "1.5"},
		{"priority is huge", `{"priority": 99999999999}`, 400, "invalid", "99999999999"},
		{"priority is out of range", `{"priority": 2000000}`, 400, "invalid", "2000000"},
		{"payload is text", `{"payload": "{\"command\": \"x\"}"}`, 400, "invalid", "send the object itself"},
		{"payload is an array", `{"payload": [1]}`, 400, "invalid", "it has to be an object"},
		{"payload is true", `{"payload": true}`, 400, "invalid", "true or false"},
		{"command is bad", `{"payload": {"command": []}}`, 400, "invalid", "command"},
		{"other content", `{"id": "taken", "payload": {"other": 1}}`, 409, "conflict", "taken"},

		{"id in capitals", `{"ID": "a"}`, 400, "invalid", `no key "ID"; did you mean "id"?`},
		{"misspelt", `{"id": "a", "prioritty": 5}`, 400, "invalid", `did you mean "priority"?`},
		{"misspelt, too", `{"paylod": {}}`, 400, "invalid", `did you mean "payload"?`},
		{"another name", `{"task_id": "a"}`, 400, "invalid", `did you mean "id"?`},
		{"a command beside", `{"id": "a", "command": "x"}`, 400, "invalid", `put it into "payload"`},
		{"nothing of ours", `{"task": "data"}`, 400, "invalid", `send {"payload": ...}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantProblem(t, f.ask("POST", "/tasks", tc.body), tc.status, tc.code, tc.words)
			if tc.status == 409 || tc.status == 501 {
				tc.status = 400
			}
			got := f.ask("POST", "/queue/submit", tc.body)
			wantProblem(t, got, tc.status, tc.code, tc.words)
			if okay, there := got.json["ok"]; okay != false || !there {
				t.Errorf("ok is %v", okay)
			}
		})
	}
	if n := f.m.Values()["queue_tasks_submitted_total"]; n != 1 {
		t.Errorf("%v tasks were accepted", n-1)
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"`)
		for ; i > 0; i /= 26 {
			b.WriteByte(byte('a' + i%26))
		}
		b.WriteString(`":1`)
	}
	return b.String()
}

// TestHTTPSubmitIgnoresWhatItDoesNotKnow holds what is said about other keys: they
// are ignored and named, unless they would have changed what is run.
func TestHTTPSubmitIgnoresWhatItDoesNotKnow(t *testing.T) {
	f := setupHTTP(t)
	got := f.ask("POST", "/queue/submit", `{"id":"a","task_id":"b","source":"cron","uid":7,"command":"no","payload":{"command":"true"}}`)
	if got.status != 200 || got.body != `{"ok":true,"id":"a","ignored":["command","source","task_id","uid"]}`+"\n" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if argv := f.lookup("a").Spec.Argv; argv[len(argv)-1] != "true" {
		t.Errorf("it runs %q", argv)
	}
}

// fullQueue takes nothing, and says why.
type fullQueue struct {
	api.Queue
	err error
}

func (q fullQueue) Submit(context.Context, []*task.Spec) ([]api.Accepted, error) { return nil, q.err }

func TestHTTPSubmitWhenTheQueueCannot(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{task.Errorf(task.CodeUnavailable, "the queue is being closed; try again"), 503, "unavailable", "1"},
		{task.Errorf(task.CodeExhausted, "the disk is full"), 429, "exhausted", "1"},
		{errors.New("a page is broken"), 500, "internal", ""},
	} {
		f := &httpFixture{fixture: setup(t, func(o *api.Options) { o.Queue = fullQueue{o.Queue, tc.err} })}
		f.serveHTTP(rpc.HTTPOptions{Peer: me})
		for _, path := range []string{"/tasks", "/queue/submit"} {
			got := f.ask("POST", path, `{}`)
			wantProblem(t, got, tc.status, tc.code, tc.err.Error())
			if got.header.Get("Retry-After") != tc.retry {
				t.Errorf("%s: %s", path, got.header)
			}
		}
	}
}
