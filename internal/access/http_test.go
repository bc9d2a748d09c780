package access_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// httpServing serves a handler that says who asked.
func httpServing(t *testing.T, lis net.Listener, wrap func(http.Handler) http.Handler) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, named := access.PeerFrom(r.Context())
		fmt.Fprint(w, p.UID, named)
	})
	server := &http.Server{Handler: wrap(handler), ConnContext: access.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// answer sends raw lines, as no client library would, and returns the response.
func answer(t *testing.T, addr string, lines ...string) (status int, header http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestBrowsers(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)})
	guard := access.Guard{Hosts: []string{"login1.example.org", "2001:db8::1"}}
	httpServing(t, gate.Loopback(lis), guard.Wrap)
	at := lis.Addr().String()
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	const get, post, ok, no = "GET /x HTTP/1.1", "POST /x HTTP/1.1", http.StatusOK, http.StatusForbidden
	host := "Host: " + at
	form := "Content-Type: text/plain\r\nContent-Length: 0"
	for name, tc := range map[string]struct {
		lines []string
		want  int
	}{
		"curl":                       {[]string{get, host, "User-Agent: curl/8"}, ok},
		"curl, POST without type":    {[]string{post, host, "Content-Length: 0"}, ok},
		"curl, POST as form":         {[]string{post, host, form}, ok},
		"HTTP/1.0 without host":      {[]string{"GET /x HTTP/1.0"}, no},
		"typed into the address bar": {[]string{get, host, "Sec-Fetch-Site: none"}, ok},
		"our own page":               {[]string{post, host, "Origin: http://" + at, "Sec-Fetch-Site: same-origin", form}, ok},
		"host localhost":             {[]string{get, "Host: localhost:" + port}, ok},
		"host LOCALHOST":             {[]string{get, "Host: LOCALHOST:1"}, ok},
		"host of IPv6":               {[]string{get, "Host: [::1]:9097"}, ok},
		"host of IPv6, written long": {[]string{get, "Host: [0:0:0:0:0:0:0:1]"}, ok},
		"host that is configured":    {[]string{get, "Host: Login1.example.org:9097"}, ok},
		"address that is configured": {[]string{get, "Host: [2001:db8::1]:9097"}, ok},
		"host in the request line":   {[]string{"GET http://evil.example/x HTTP/1.1", host}, no},
		"rebound name":               {[]string{get, "Host: evil.example:" + port}, no},
		"rebound name, same origin":  {[]string{get, "Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin"}, no},
		"name that begins like ours": {[]string{get, "Host: localhost.evil.example"}, no},
		"name that ends like ours":   {[]string{get, "Host: evil-localhost"}, no},
		"user before the host":       {[]string{get, "Host: 127.0.0.1@evil.example"}, http.StatusBadRequest},
		"number instead of address":  {[]string{get, "Host: 2130706433"}, no},
		"foreign origin":             {[]string{post, host, "Origin: https://evil.example"}, no},
		"foreign origin, GET":        {[]string{get, host, "Origin: https://evil.example"}, no},
		"origin null":                {[]string{post, host, "Origin: null"}, no},
		"empty origin":               {[]string{post, host, "Origin:"}, no},
		"origin of another port":     {[]string{post, host, "Origin: http://127.0.0.1:1"}, no},
		"origin of another scheme":   {[]string{post, host, "Origin: https://" + at}, no},
		"origin of another name":     {[]string{post, host, "Origin: http://localhost:" + port}, no},
		"origin with a path":         {[]string{post, host, "Origin: http://" + at + "/x"}, no},
		"two origins":                {[]string{post, host, "Origin: http://" + at, "Origin: https://evil.example"}, no},
		"form of a foreign page":     {[]string{post, host, form, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, no},
		"cross-site, GET":            {[]string{get, host, "Sec-Fetch-Site: cross-site"}, no},
		"same-site, another port":    {[]string{get, host, "Sec-Fetch-Site: same-site"}, no},
		"two words of where from":    {[]string{get, host, "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"}, no},
		"unknown word of where from": {[]string{get, host, "Sec-Fetch-Site: other"}, no},
		"preflight":                  {[]string{"OPTIONS /x HTTP/1.1", host, "Origin: https://evil.example", "Access-Control-Request-Method: POST"}, no},
		"preflight of our own page":  {[]string{"OPTIONS /x HTTP/1.1", host, "Origin: http://" + at}, no},
		"preflight, private network": {[]string{"OPTIONS /x HTTP/1.1", host, "Access-Control-Request-Private-Network: true"}, no},
		"web socket of foreign page": {[]string{get, host, "Upgrade: websocket", "Origin: https://evil.example"}, no},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, body := answer(t, at, tc.lines...)
			if status != tc.want {
				t.Errorf("status %d, want %d: %s", status, tc.want, body)
			}
			for name := range header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("header %s", name)
				}
			}
			if tc.want == no && (header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"detail"`) || !strings.Contains(body, `"code":"forbidden"`)) {
				t.Errorf("the refusal does not say why: %s", body)
			}
		})
	}
}

// TestRestricted lets a user with the right to metrics read these, over real
// sockets of that user.
func TestRestricted(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{
		UID: serverUID(t), MetricsUIDs: []uint32{strangerUID(t)}, Owners: ownersBy(t, access.ByNetlink),
	})
	httpServing(t, gate.Loopback(lis), access.Guard{}.Wrap)
	got := output(t, stranger(t, "get", "http://"+lis.Addr().String(),
		"GET /metrics", "HEAD /health", "GET /metrics?x=1", "POST /metrics", "GET /", "GET /tasks", "GET /metrics/", "GET //metrics", "GET /metrics/../tasks"))
	want := []string{
		"GET /metrics 200", "HEAD /health 200", "GET /metrics?x=1 200", "POST /metrics 403", "GET / 403", "GET /tasks 403",
		"GET /metrics/ 403", "GET //metrics 403", "GET /metrics/../tasks 403",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestHTTPToken asks for the token where the kernel has not named the sender.
func TestHTTPToken(t *testing.T) {
	dir := secrets(t)
	cert, err := serverCert(dir, ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := readToken(dir, ourUID())
	if err != nil {
		t.Fatal(err)
	}
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)})
	wrap := func(h http.Handler) http.Handler {
		return access.Guard{Hosts: cert.Hosts()}.Wrap(access.TokenGuard{Token: token, UID: 77}.Wrap(h))
	}
	plain, secure := listening(t, "tcp4", "127.0.0.1:0"), listening(t, "tcp4", "127.0.0.1:0")
	httpServing(t, gate.Loopback(plain), wrap)
	httpServing(t, gate.TLS(secure, cert.ServerTLS()), wrap)
	d := access.Dialer{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)}
	base := &http.Transport{DialContext: d.DialContext, TLSClientConfig: cert.ClientTLS()}
	defer base.CloseIdleConnections()
	with := bearing{tokenText(t, dir), base}

	for name, tc := range map[string]struct {
		url  string
		via  http.RoundTripper
		want string
	}{
		"loopback":         {"http://" + plain.Addr().String(), base, fmt.Sprint(200, " ", ourUID(), " true")},
		"TLS":              {"https://" + secure.Addr().String(), base, "401"},
		"TLS and token":    {"https://" + secure.Addr().String(), with, "200 77 true"},
		"foreign TLS page": {"https://" + secure.Addr().String(), fromPage{with}, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fetch(t, tc.url, tc.via); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// bearing sends a token.
type bearing struct {
	token string
	base  http.RoundTripper
}

func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.base.RoundTrip(r)
}

// tokenText reads a token as a user would, to give it to curl.
func tokenText(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, access.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// fromPage sends what a browser adds for a foreign page.
type fromPage struct{ base http.RoundTripper }

func (f fromPage) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Origin", "https://evil.example")
	return f.base.RoundTrip(r)
}

// fetch returns the status, and the body if it is 200.
func fetch(t *testing.T, url string, via http.RoundTripper) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		t.Log(err)
		return "not sent"
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}
