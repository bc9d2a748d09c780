package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// raw opens a connection of its own, and sends a text as it is.
func (f *httpFixture) raw(text string) net.Conn {
	f.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(f.ctx, "tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// everything reads until the server closes the connection.
func everything(tb testing.TB, conn net.Conn) string {
	tb.Helper()
	data, err := io.ReadAll(conn)
	if err != nil && len(data) == 0 {
		tb.Fatalf("the server did not end the connection: %v", err)
	}
	return string(data)
}

func quick(o *rpc.HTTPOptions) {
	o.HeaderTimeout, o.ReadTimeout, o.IdleTimeout = 50*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
}

func TestHTTPSlowClientsAreCutOff(t *testing.T) {
	f := setupHTTP(t, quick)
	for name, sent := range map[string]string{
		"nothing":       "",
		"half a header": "POST /tasks HTTP/1.1\r\nHost: x\r\nX-A",
		"an idle one":   "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := everything(t, f.raw(sent))
			if answered := strings.Contains(got, "200 OK"); answered != (name == "an idle one") {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("half a body", func(t *testing.T) {
		got := everything(t, f.raw("POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"id\":"))
		if !strings.Contains(got, "408 Request Timeout") || !strings.Contains(got, "did not come within 100ms") {
			t.Errorf("got %q", got)
		}
	})
	if got := f.ask("GET", "/health", ""); got.status != 200 {
		t.Errorf("others are not answered any more: %d", got.status)
	}
}

// TestHTTPManySlowClients has more connections that never finish a header than
// requests that may be worked on.
func TestHTTPManySlowClients(t *testing.T) {
	f := setupHTTP(t, func(o *rpc.HTTPOptions) { o.MaxRequests = 4 })
	for range 100 {
		f.raw("POST /tasks HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	}
	if got := f.ask("GET", "/health", ""); got.status != 200 {
		t.Errorf("got %d", got.status)
	}
}

func TestHTTPHeadersAreBounded(t *testing.T) {
	f := setupHTTP(t)
	got := f.ask("GET", "/health", "", "X-Long: "+strings.Repeat("x", 128<<10))
	if got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", got.status)
	}
}

func TestHTTPLargeBodiesAreNotRead(t *testing.T) {
	f := setupHTTP(t)
	conn := f.raw("POST /queue/submit HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "HTTP/1.1 413 Request Entity Too Large\r\n" {
		t.Errorf("got %q, %v", line, err)
	}
	got, err := f.try("POST", "/tasks", io.LimitReader(spaces{}, 11<<20)) // of unknown length
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, got, 413, "too_large", "10485760")
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestHTTPBodiesTogetherAreBounded(t *testing.T) {
	f := setupHTTP(t, func(o *rpc.HTTPOptions) { o.MaxBodies = 16 << 10 })
	wantProblem(t, f.ask("POST", "/tasks", `{"id":"`+strings.Repeat("x", 20<<10)+`"}`), 503, "unavailable", "too much is being sent")
	for range 20 { // the room is given back
		if got := f.ask("POST", "/tasks", `{"payload":{"a":"`+strings.Repeat("x", 10<<10)+`"}}`); got.status != 200 {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
}

func TestHTTPRequestsAreBounded(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := setupHTTP(t, func(o *rpc.HTTPOptions) {
		o.MaxRequests = 1
		o.Peer = func(r *http.Request) (rpc.Peer, bool) {
			if r.URL.Path == "/queue/status" {
				close(entered)
				<-leave
			}
			return me(r)
		}
	})
	first := make(chan error, 1)
	go func() {
		got, err := f.try("GET", "/queue/status", nil)
		if err == nil && got.status != 200 {
			err = fmt.Errorf("status %d", got.status)
		}
		first <- err
	}()
	<-entered
	got := f.ask("GET", "/health", "")
	wantProblem(t, got, 503, "unavailable", "too many requests")
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("got %s", got.header)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if got := f.ask("GET", "/health", ""); got.status != 200 {
		t.Errorf("the place was not given back: %d", got.status)
	}
}

// TestHTTPStopLetsRequestsEnd stops while one request is worked on, and while
// connections are open on which none is.
func TestHTTPStopLetsRequestsEnd(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := setupHTTP(t, func(o *rpc.HTTPOptions) {
		o.Peer = func(r *http.Request) (rpc.Peer, bool) {
			close(entered)
			<-leave
			return me(r)
		}
	})
	f.raw("") // nothing was sent on it yet
	type result struct {
		answer
		err error
	}
	under := make(chan result, 1)
	go func() {
		got, err := f.try("POST", "/tasks", strings.NewReader(`{"id":"a"}`))
		under <- result{got, err}
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- f.stopHTTP() }()
	waitRefused(t, f.addr)
	close(leave)
	if got := <-under; got.err != nil || got.status != 200 {
		t.Errorf("got %d %s, %v", got.status, got.body, got.err)
	}
	begun := time.Now()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the stop took %s", took)
	}
	f.lookup("a")
}

// TestHTTPStopIsBounded has a request that does not end.
func TestHTTPStopIsBounded(t *testing.T) {
	entered := make(chan struct{})
	f := &httpFixture{fixture: setup(t, func(o *api.Options) { o.StopTimeout = time.Second })}
	f.serveHTTP(rpc.HTTPOptions{Peer: func(r *http.Request) (rpc.Peer, bool) {
		close(entered)
		<-r.Context().Done()
		return me(r)
	}})
	done := make(chan error, 1)
	go func() {
		_, err := f.try("GET", "/health", nil)
		done <- err
	}()
	<-entered
	if err := f.stopHTTP(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("a request that was cut off has an answer")
	}
}

// TestHTTPStopLeavesBehindWhatHangs has a request that does not end with its
// connection, as one at a disk that does not answer.
func TestHTTPStopLeavesBehindWhatHangs(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := &httpFixture{fixture: setup(t, func(o *api.Options) { o.StopTimeout = 50 * time.Millisecond })}
	stop := f.serveHTTPUnwatched(rpc.HTTPOptions{Peer: func(r *http.Request) (rpc.Peer, bool) {
		close(entered)
		<-leave
		return me(r)
	}})
	done := make(chan error, 1)
	go func() {
		_, err := f.try("GET", "/health", nil)
		done <- err
	}()
	<-entered
	if err := stop(); !errors.Is(err, rpc.ErrLeftBehind) {
		t.Errorf("the stop ended with %v", err)
	}
	if err := <-done; err == nil {
		t.Error("a request that was cut off has an answer")
	}
	close(leave)
}

// waitRefused waits until nobody listens any more.
func waitRefused(tb testing.TB, addr string) {
	tb.Helper()
	for {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}

// TestHTTPHalfClosedIsNoFault: who closes the connection while the task is being
// stored has given up, which is no fault of the server's; nothing was stored.
func TestHTTPHalfClosedIsNoFault(t *testing.T) {
	q := awaitingQueue{entered: make(chan struct{}, 1)}
	f := &httpFixture{fixture: setup(t, func(o *api.Options) { q.queuePort = o.Queue.(queuePort); o.Queue = q })}
	f.serveHTTP(rpc.HTTPOptions{Peer: me})
	conn := f.raw("POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{\"id\":\"a\"}")
	<-q.entered
	if err := conn.(halfClosing).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := everything(t, conn); !strings.Contains(got, "503 Service Unavailable") || !strings.Contains(got, "nothing was done") {
		t.Errorf("got %q", got)
	}
}
