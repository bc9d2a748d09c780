package probe_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func askHTTP(t *testing.T, addr, path string) probe.Result {
	t.Helper()
	s := probe.Spec{Kind: probe.HTTP, Port: 8080, Path: path, Timeout: patience}
	return probe.Run(t.Context(), s, at(addr))
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed to %s", r.URL)
	}))
	t.Cleanup(elsewhere.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("/request", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "localhost:8080" || r.Method != http.MethodGet || !r.Close || r.URL.RawQuery != "deep=1" {
			t.Errorf("asked with %s %s at %s, close %v", r.Method, r.URL, r.Host, r.Close)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/starting", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the index \x1b[31mis\n being read", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "\n<html>no backend</html>")
	})
	mux.HandleFunc("/private", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/x", http.StatusFound)
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("models ", 100_000))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for _, tc := range []struct {
		path string
		want error
		says string
	}{
		{"", nil, "HTTP 200 OK"},
		{"/request?deep=1", nil, "HTTP 204"},
		{"/starting", probe.ErrNotReady, "HTTP 503 Service Unavailable: the index [31mis being read"},
		{"/page", probe.ErrNotReady, "HTTP 502 Bad Gateway"},
		{"/private", probe.ErrNotReady, "name a path that everybody may read"},
		{"/nowhere", probe.ErrNotReady, "HTTP 404 Not Found at /nowhere; is that the path of its health?"},
		{"/moved", nil, "HTTP 302 Found, which was not followed: " + elsewhere.URL + "/x"},
		{"/hints", nil, "HTTP 200"},
		{"/large", nil, "HTTP 200"},
	} {
		r := askHTTP(t, server.Listener.Addr().String(), tc.path)
		expect(t, r, tc.want, tc.says)
		if strings.Contains(r.Detail, "<") || strings.Contains(r.Detail, "\x1b") {
			t.Errorf("%s: %q", tc.path, r.Detail)
		}
	}
}

// A proxy that the environment names is not for services beside us.
func TestHTTPUsesNoProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the proxy was asked for %s", r.URL)
	}))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	expect(t, askHTTP(t, serve(t, saying("HTTP/1.1 200 OK\r\n\r\n")), ""), nil, "HTTP 200")
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		want   error
		says   string
	}{
		"an old one":          {"HTTP/1.0 200 OK\r\n\r\nfine", nil, "HTTP 200 OK"},
		"without a reason":    {"HTTP/1.1 200\r\n\r\n", nil, "HTTP 200"},
		"chunks":              {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", nil, "HTTP 200"},
		"less than announced": {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine", nil, "HTTP 200"},
		"TLS":                 {"\x15\x03\x03\x00\x02\x02\x46", probe.ErrForeign, `does not speak HTTP: it says "\x15\x03`},
		"HTTP/2":              {"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", probe.ErrForeign, "does not speak HTTP"},
		"Redis":               {"-ERR wrong number of arguments for 'get' command\r\n", probe.ErrForeign, `it says "-ERR`},
		"part of a head":      {"HTTP/1.1 200 OK\r\nServer: x", probe.ErrClosed, "in the middle of an answer"},
		"part of a line":      {"HTT", probe.ErrClosed, "in the middle of an answer"},
		"only hints":          {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20), probe.ErrForeign, ""},
		"no number":           {"HTTP/1.1 OK\r\n\r\n", probe.ErrForeign, ""},
		"another connection":  {"HTTP/1.1 101 Switching Protocols\r\n\r\n", probe.ErrNotReady, "HTTP 101"},
		"a head without end":  {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100_000), probe.ErrForeign, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, askHTTP(t, serve(t, func(conn net.Conn) {
				saying(tc.answer)(conn)
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
				untilLeft(conn)
			}), ""), tc.want, tc.says)
		})
	}
}

// A body that never ends, or never comes, does not keep a good answer back.
func TestHTTPBodyWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(net.Conn){
		"comes": func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, "4\r\nfine\r\n"); err != nil {
					return
				}
			}
		},
		"does not come": untilLeft,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := askHTTP(t, serve(t, func(conn net.Conn) {
				saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")(conn)
				body(conn)
			}), "")
			expect(t, r, nil, "HTTP 200")
			if r.Took >= patience {
				t.Errorf("took %v", r.Took)
			}
		})
	}
}
