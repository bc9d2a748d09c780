package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

func TestHTTPReadsEveryCall(t *testing.T) {
	f := setupHTTP(t)
	f.run("done", 0, `{"n":1}`)
	for _, tc := range []struct {
		path   string
		status int
		kind   string
		words  string
	}{
		{"/health", 200, "application/json", `"status":"ok"`},
		{"/metrics", 200, "text/plain", "\nenv_queue_depth 0\n"},
		{"/queue/status", 200, "application/json", `{"pending":0,"done":1,"submitted":1,"processed":1,"completed":1}`},
		{"/tasks/done", 200, "application/json", `"status":"completed"`},
		{"/tasks/nobody", 404, "application/problem+json", "nobody"},
		{"/tasks/", 400, "application/problem+json", "empty"},
		{"/tasks/%00", 400, "application/problem+json", "not allowed"},
		{"/slurm/status/done", 404, "application/problem+json", "not given to Slurm"},
		{"/slurm/status/nobody", 404, "application/problem+json", "nobody"},
		{"/workflows", 501, "application/problem+json", "workflows are not in this release yet"},
		{"/workflows/w", 501, "application/problem+json", "workflows"},
		{"/workflows/w/history", 501, "application/problem+json", "workflows"},
		{"/workflows/w/runs", 501, "application/problem+json", "workflows"},
		{"/workflow-runs/r", 501, "application/problem+json", "workflows"},
		{"/", 404, "application/problem+json", "/tasks/{id}"},
		{"/nothing/here", 404, "application/problem+json", "/queue/submit"},
		{"/" + strings.Repeat("x", 5000), 404, "application/problem+json", "xxx..."},
	} {
		got := f.ask(http.MethodGet, tc.path, "")
		if got.status != tc.status || !strings.HasPrefix(got.header.Get("Content-Type"), tc.kind) || !strings.Contains(got.body, tc.words) {
			t.Errorf("GET %s: %d %s %s", tc.path, got.status, got.header, got.body)
		}
		head := f.ask(http.MethodHead, tc.path, "")
		if head.status != tc.status || head.body != "" || head.header.Get("Content-Type") != got.header.Get("Content-Type") {
			t.Errorf("HEAD %s: %d %s %q", tc.path, head.status, head.header, head.body)
		}
	}
}

func TestHTTPWrongMethods(t *testing.T) {
	f := setupHTTP(t)
	for _, tc := range []struct{ method, path, allow string }{
		{"GET", "/queue/submit", "POST"},
		{"HEAD", "/tasks", "POST"},
		{"GET", "/tasks", "POST"},
		{"POST", "/health", "GET, HEAD"},
		{"POST", "/tasks/a/b", "GET, HEAD"},
		{"DELETE", "/tasks/a", "GET, HEAD"},
		{"OPTIONS", "/tasks", "POST"},
		{"PATCH", "/workflows/w", "GET, HEAD, PUT"},
		{"DELETE", "/workflows", "GET, HEAD, POST"},
		{"BREW", "/metrics", "GET, HEAD"},
	} {
		got := f.ask(tc.method, tc.path, "")
		if got.header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: Allow is %q, want %q", tc.method, tc.path, got.header.Get("Allow"), tc.allow)
		}
		if tc.method != "HEAD" {
			wantProblem(t, got, 405, "method_not_allowed", tc.path+" does not take "+tc.method+"; it takes "+tc.allow)
		}
	}
	if got := f.ask("POST", "/nothing", ""); got.status != 404 {
		t.Errorf("POST to nothing: %d", got.status)
	}
}

func TestHTTPAnswersAreNotKeptOrGuessed(t *testing.T) {
	f := setupHTTP(t)
	for _, path := range []string{"/health", "/queue/status", "/nothing"} {
		h := f.ask("GET", path, "").header
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %s", path, h)
		}
	}
}

func TestHTTPNobodyIsRefused(t *testing.T) {
	nobody := func(*http.Request) (rpc.Peer, bool) { return rpc.Peer{}, false }
	f := setupHTTP(t, func(o *rpc.HTTPOptions) { o.Peer = nobody })
	for _, path := range []string{"/health", "/metrics", "/tasks/a", "/nothing"} {
		wantProblem(t, f.ask("GET", path, ""), 403, "forbidden", "not known who")
	}
	wantProblem(t, f.ask("POST", "/tasks", `{}`), 403, "forbidden", "refused")
	if _, err := api.NewHTTP(f.srv, rpc.HTTPOptions{}); err == nil {
		t.Error("HTTP is served without a way to know who asks")
	}
}

func TestHTTPGuardStandsBeforeAll(t *testing.T) {
	guard := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Origin") != "" {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	f := setupHTTP(t, func(o *rpc.HTTPOptions) { o.Guard = guard })
	for _, path := range []string{"/health", "/nothing"} {
		if got := f.ask("GET", path, "", "Origin: https://example.org"); got.status != 403 || got.body != "no\n" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := f.ask("GET", "/health", ""); got.status != 200 {
		t.Errorf("got %d", got.status)
	}
}

func TestHTTPRequestsAreCounted(t *testing.T) {
	f := setupHTTP(t)
	f.ask("GET", "/tasks/a", "")
	f.ask("GET", "/tasks/b/c", "")
	f.ask("DELETE", "/tasks/a", "")
	f.ask("GET", "/nothing/a", "")
	f.ask("POST", "/tasks", "{")
	body := f.ask("GET", "/metrics", "").body
	for _, want := range []string{
		`dspy_http_requests_total{code="404",path="/tasks/{id}"} 2`,
		`dspy_http_requests_total{code="405",path="/tasks/{id}"} 1`,
		`dspy_http_requests_total{code="404",path="other"} 1`,
		`dspy_http_requests_total{code="400",path="/tasks"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in\n%s", want, grep(body, "dspy_http"))
		}
	}
	if _, err := f.GetMetrics(f.ctx, nil); err != nil {
		t.Fatal(err)
	}
	body = f.ask("GET", "/metrics", "").body
	if want := `dspy_grpc_requests_total{code="OK",method="orchestrator.v1.OrchestratorService/GetMetrics"} 1`; !strings.Contains(body, want+"\n") {
		t.Errorf("no %s in\n%s", want, grep(body, "dspy_grpc"))
	}
}

func grep(text, word string) (found string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found += line
		}
	}
	return found
}

func TestHTTPPanicIsOneRequests(t *testing.T) {
	f := setupHTTP(t, func(o *rpc.HTTPOptions) {
		o.Peer = func(r *http.Request) (rpc.Peer, bool) {
			if r.URL.Path == "/health" {
				panic("a fault")
			}
			return me(r)
		}
	})
	for range 3 {
		wantProblem(t, f.ask("GET", "/health", ""), 500, "internal", "its log has more")
	}
	got := f.ask("GET", "/metrics", "")
	if want := fmt.Sprintf(`dspy_http_requests_total{code="500",path="/health"} %d`, 3); !strings.Contains(got.body, want) {
		t.Errorf("no %s", want)
	}
}

func TestHTTPHealthTellsWhatIsDown(t *testing.T) {
	f := setupHTTP(t)
	f.info.Services = map[string]string{"queue": "down: no space left on device", "process": "ok", "docker": "not in this release yet"}
	f.ill.Store(true)
	got := f.ask("GET", "/health", "")
	if got.status != 503 || got.json["status"] != "unavailable" ||
		got.json["error"] != "tasks cannot be accepted; queue: down: no space left on device" || got.json["version"] != "1.2.3" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	f.ill.Store(false)
	if got := f.ask("GET", "/health", ""); got.status != 200 || got.json["status"] != "ok" || got.json["error"] != nil {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
