package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// httpFixture is a fixture that also serves HTTP, on a real port.
type httpFixture struct {
	*fixture
	addr     string // host:port
	client   *http.Client
	stopHTTP func() error
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any // nil when the body is not an object
}

func setupHTTP(tb testing.TB, change ...func(*rpc.HTTPOptions)) *httpFixture {
	tb.Helper()
	opts := rpc.HTTPOptions{Peer: me}
	for _, c := range change {
		c(&opts)
	}
	f := &httpFixture{fixture: setup(tb)}
	f.serveHTTP(opts)
	return f
}

// me is the test's own process, as whoever asks.
func me(*http.Request) (rpc.Peer, bool) {
	return rpc.Peer{UID: uint32(os.Geteuid()), Via: "whatever"}, true
}

func (f *httpFixture) serveHTTP(opts rpc.HTTPOptions) {
	f.t.Helper()
	f.stopHTTP = f.serveHTTPUnwatched(opts)
	f.t.Cleanup(func() {
		if err := f.stopHTTP(); err != nil {
			f.t.Errorf("serve HTTP: %v", err)
		}
	})
}

// serveHTTPUnwatched leaves it to the test to stop the server.
func (f *httpFixture) serveHTTPUnwatched(opts rpc.HTTPOptions) (stop func() error) {
	f.t.Helper()
	h, err := api.NewHTTP(f.srv, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(f.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.addr = lis.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, lis) }()
	transport := &http.Transport{}
	f.client = &http.Client{
		Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	f.t.Cleanup(transport.CloseIdleConnections)
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

// ask sends a request, and returns the whole answer. Headers are "Name: value".
func (f *httpFixture) ask(method, path, body string, headers ...string) answer {
	f.t.Helper()
	a, err := f.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (f *httpFixture) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+f.addr+path, body)
	if err != nil {
		return answer{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(data)}
	_ = json.Unmarshal(data, &a.json)
	return a, err
}

// wantProblem says which refusal an answer must be, and what it must say.
func wantProblem(tb testing.TB, a answer, status int, code, words string) {
	tb.Helper()
	detail, _ := a.json["detail"].(string)
	switch {
	case a.status != status || a.json["status"] != float64(status):
		tb.Errorf("got %d, want %d: %s", a.status, status, a.body)
	case a.header.Get("Content-Type") != "application/problem+json":
		tb.Errorf("got the type %s", a.header.Get("Content-Type"))
	case a.json["type"] != "about:blank" || a.json["title"] != http.StatusText(status) || a.json["code"] != code:
		tb.Errorf("got %s, want code %s", a.body, code)
	case detail == "" || a.json["error"] != detail:
		tb.Errorf("error and detail differ, or say nothing: %s", a.body)
	case !strings.Contains(detail, words):
		tb.Errorf("%q does not say %q", detail, words)
	}
}
