package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
)

// browsers are the names under which the same browser is known; those of
// scripts/setup-tests.
var browsers = []string{"chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable", "chrome"}

// evil is the host name of somebody else, which points here.
const evil = "evil.example"

// browserPatience is how long all that one page does may take.
const browserPatience = 90 * time.Second

// A browser of the owner. chromedp knows it by a context, and each of its tabs.
type browser struct{ ctx context.Context }

// startBrowser starts one, which ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := wantTools(t, "the browser of which pages are opened", browsers...)
	home, err := os.MkdirTemp("", "dwb")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(home),
		chromedp.NoInheritEnv, chromedp.Env("HOME="+home, "TMPDIR="+home, "PATH=/usr/bin:/bin"),
		chromedp.Flag("host-resolver-rules", "MAP "+evil+" 127.0.0.1"),
		// Newer browsers protect local servers by themselves; not everybody's does.
		chromedp.Flag("disable-features", "LocalNetworkAccessChecks"))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // the browser refuses to have one as root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("end the browser: %v", err)
		}
		closeTab()
		stop()
		if err := os.RemoveAll(home); err != nil {
			t.Errorf("remove what the browser left: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &browser{ctx}
}

// A tab of a browser.
type tab struct {
	*testing.T
	ctx context.Context
}

// newTab opens a tab, which is closed at the end of the test.
func (b *browser) newTab(t *testing.T) *tab {
	t.Helper()
	ctx, done := chromedp.NewContext(b.ctx)
	ctx, cancel := context.WithTimeout(ctx, browserPatience)
	t.Cleanup(func() { cancel(); done() })
	return &tab{t, ctx}
}

// open shows a page.
func (b *browser) open(t *testing.T, url string) *tab {
	t.Helper()
	page := b.newTab(t)
	if err := chromedp.Do(page.ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	return page
}

// What a page could read by one of its ways.
type heard struct {
	Status int    `json:"status"`
	Text   string `json:"text"`
	Error  string `json:"error"`
}

// attack has the page try all its ways.
func (p *tab) attack(http, grpc string) map[string]heard {
	p.Helper()
	script := fmt.Sprintf("attack(%q, %q)", http, grpc)
	got, err := chromedp.Run(p.ctx, chromedp.Evaluate[map[string]heard](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%s: %v", script, err)
	}
	if len(got) < 20 {
		p.Fatalf("%s did only %v", script, got)
	}
	for way, what := range got {
		if what.Error == "nothing happens" { // the page's own words
			p.Errorf("%s: it is not known what the browser did", way)
		}
	}
	return got
}

// foreignPage is the page of somebody else, and a server that has it.
func foreignPage(t *testing.T) (page []byte, server *httptest.Server) {
	t.Helper()
	page, err := os.ReadFile("testdata/foreign.html")
	if err != nil {
		t.Fatal(err)
	}
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	}))
	t.Cleanup(server.Close)
	return page, server
}

// A trusting server answers everybody: what a page can do to it shows that the page
// does what it says.
type trusting struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newTrusting(t *testing.T) *trusting {
	t.Helper()
	s := new(trusting)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, fmt.Sprintf("%s %s of %s", r.Method, r.URL, r.Header.Get("Sec-Fetch-Site")))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"ok": true}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// requests returns what was asked since the last time, but for what a browser asks
// on its own account.
func (s *trusting) requests() (asked []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.seen {
		if !strings.Contains(r, "favicon") {
			asked = append(asked, r)
		}
	}
	s.seen = nil
	return asked
}

// TestForeignPages opens pages of other origins in the owner's own browser, which
// runs as the owner. Everything that they send is refused, and nothing of it is
// readable; a server that trusts everybody gets it all.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)
	d := openDoors(t)
	end := d.holdMine()
	_, server := foreignPage(t)
	control := newTrusting(t)
	for _, host := range []string{"127.0.0.1", evil} { // another port of the same host, and another host
		page := browser.open(t, "http://"+host+":"+portOf(t, server.Listener.Addr().String()))
		page.attack(control.URL, control.URL)
		asked := control.requests()
		wantAllWays(t, asked)

		before := d.httpAnswers()
		for way, got := range page.attack("http://"+d.http, "http://"+d.grpc) {
			if got.Text != "" || got.Status != 0 {
				t.Errorf("%s: a page of %s reads %d %q", way, host, got.Status, got.Text)
			}
		}
		d.wantOnlyRefusals(t, before, asked)
		d.wantOnlyMine()
	}
	end()
}

// TestReboundName opens a page whose host name pointed elsewhere when it was loaded,
// and points here now: for the browser both are one origin, so it hides nothing from
// the page.
func TestReboundName(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)
	d := openDoors(t)
	end := d.holdMine()
	page, _ := foreignPage(t)
	control := newTrusting(t)

	base := "http://" + evil + ":" + portOf(t, control.Listener.Addr().String())
	readable := 0
	for _, got := range browser.openElsewhere(t, base, page).attack(base, base) {
		if strings.Contains(got.Text, `"ok": true`) {
			readable++
		}
	}
	if readable < 5 {
		t.Errorf("the page reads %d answers of a server that trusts everybody: it is no rebound name", readable)
	}
	asked := control.requests()
	wantAllWays(t, asked)

	base = "http://" + evil + ":" + portOf(t, d.http)
	before := d.httpAnswers()
	for way, got := range browser.openElsewhere(t, base, page).attack(base, "http://"+evil+":"+portOf(t, d.grpc)) {
		// What can be read is that it is refused.
		refused := got.Status == http.StatusForbidden || got.Status == 0
		if !refused || got.Text != "" && !strings.Contains(got.Text, "is not one of this server") {
			t.Errorf("%s: the page reads %d %q", way, got.Status, got.Text)
		}
	}
	d.wantOnlyRefusals(t, before, asked)
	d.wantOnlyMine()
	end()
}

// openElsewhere shows a page that another server has given under a name, as the
// browser sees it; everything else under that name is asked for here.
func (b *browser) openElsewhere(t *testing.T, base string, page []byte) *tab {
	t.Helper()
	shown := b.newTab(t)
	url := base + "/foreign.html"
	pauses := chromedp.Events(shown.ctx, fetch.RequestPaused)
	if _, err := chromedp.Call(shown.ctx, fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: url}}}); err != nil {
		t.Fatal(err)
	}
	var given sync.WaitGroup
	given.Go(func() {
		for paused, err := range pauses {
			if err == nil {
				_, err = chromedp.Call(shown.ctx, fetch.FulfillRequest, fetch.FulfillRequestParams{
					RequestID: paused.RequestID, ResponseCode: http.StatusOK, Body: page,
					ResponseHeaders: []*fetch.HeaderEntry{{Name: "Content-Type", Value: "text/html; charset=utf-8"}},
				})
			}
			if err != nil {
				t.Errorf("answer in the name of another server: %v", err)
			}
			return
		}
	})
	err := chromedp.Do(shown.ctx, chromedp.Navigate(url))
	given.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

// TestForeignNavigation leaves a foreign page for one of ours, as a link and a form
// do. What is then shown belongs to us; it is refused all the same.
func TestForeignNavigation(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)
	d := openDoors(t)
	end := d.holdMine()
	_, server := foreignPage(t)
	for _, script := range []string{
		`location.href = "http://` + d.http + `/tasks/mine"`,
		`document.body.innerHTML = '<form method=post enctype=text/plain action="http://` + d.http +
			`/queue/submit"><input name=\'{"id": "stolen-form", "payload": {"message": "\' value=\'"}}\'></form>'; document.forms[0].submit()`,
	} {
		page := browser.open(t, server.URL)
		got, err := chromedp.RunResponse(page.ctx, chromedp.Evaluate[chromedp.Void](script))
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		if got.Status != http.StatusForbidden || !strings.HasPrefix(got.URL, "http://"+d.http) {
			t.Errorf("%s: %s is answered with %d", script, got.URL, got.Status)
		}
	}
	d.wantOnlyMine()
	end()
}

// TestOwnPages: what the owner types into the browser works, and what an answer of
// ours does from there on as well.
func TestOwnPages(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)
	d := openDoors(t)
	for i, host := range append(bothFamilies(t, d.http), "localhost:"+portOf(t, d.http)) {
		page := browser.newTab(t)
		got, err := chromedp.Run(page.ctx, chromedp.NavigateResponse("http://"+host+"/health"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := chromedp.Run(page.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != http.StatusOK || !strings.Contains(text, `"ok"`) {
			t.Errorf("http://%s/health is answered with %d: %s", host, got.Status, text)
		}
		id := "own" + strconv.Itoa(i)
		script := `fetch("/queue/submit", {method: "POST", headers: {"Content-Type": "application/json"},
			body: JSON.stringify({id: "` + id + `", payload: {message: "hello"}})}).then(r => r.text())`
		text, err = chromedp.Run(page.ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			OK bool
			ID string
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil || !answer.OK || answer.ID != id {
			t.Errorf("a request from http://%s/health is answered with %s", host, text)
		}
	}
}

// wantAllWays fails unless a server that trusts everybody was asked for all that the
// page tries.
func wantAllWays(t *testing.T, asked []string) {
	t.Helper()
	for _, want := range []string{
		"GET /tasks/mine ", "GET /queue/status ", "GET /metrics ", "POST /queue/submit ", "POST /tasks ",
		"GET /health?image ", "GET /queue/status?script ", "GET /metrics?style ", "GET /tasks/mine?frame ",
		"GET /metrics?events ", "GET /queue/submit?socket ", "POST /orchestrator.v1.OrchestratorService/SubmitTask ",
	} {
		if !slices.ContainsFunc(asked, func(r string) bool { return strings.HasPrefix(r, want) }) {
			t.Errorf("a server that trusts everybody was not asked for %s, but for\n%s", want, strings.Join(asked, "\n"))
		}
	}
}

// httpAnswers returns how many requests were answered over HTTP, by status, but for
// those of this test itself.
func (d *doors) httpAnswers() map[string]int {
	d.Helper()
	counts := map[string]int{}
	_, _, body := d.get(http.MethodGet, "/metrics")
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		_, code, counted := strings.Cut(name, `dspy_http_requests_total{code="`)
		if !counted || strings.Contains(name, `code="200",path="/metrics"`) {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			d.Fatal(err)
		}
		code, _, _ = strings.Cut(code, `"`)
		counts[code] += n
	}
	return counts
}

// wantOnlyRefusals fails unless what a server that trusts everybody was asked for was
// asked here as well, and refused.
func (d *doors) wantOnlyRefusals(t *testing.T, before map[string]int, asked []string) {
	t.Helper()
	want := len(slices.DeleteFunc(slices.Clone(asked), func(r string) bool { return strings.Contains(r, "/orchestrator.v1.") }))
	after := d.httpAnswers()
	for code, n := range after {
		if n -= before[code]; n != 0 && code != "403" {
			t.Errorf("%d requests of a foreign page were answered with %s", n, code)
		}
	}
	if got := after["403"] - before["403"]; got < want {
		t.Errorf("%d requests of a foreign page were refused, want the %d that another server got", got, want)
	}
	t.Logf("%d requests were refused", after["403"]-before["403"])
}
