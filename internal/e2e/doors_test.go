package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// doors is a world whose daemon can be reached over TCP, at ports of its own.
type doors struct {
	*world
	grpc, http string // HOST:PORT, in IPv4
}

// openDoors starts a daemon with both doors open.
func openDoors(t testing.TB) *doors {
	t.Helper()
	return newWorld(t, binaries.plain).openDoors()
}

// openDoors starts the daemon with both doors open.
func (w *world) openDoors() *doors {
	w.Helper()
	t := w.TB
	w.mustStart("ORCHESTRATOR_GRPC_ADDR=127.0.0.1:0", "ORCHESTRATOR_HTTP_ADDR=127.0.0.1:0")
	text, err := os.ReadFile(filepath.Join(w.queueDir, "owner.json"))
	if err != nil {
		t.Fatal(err)
	}
	var owner struct{ GRPC, HTTP string }
	if err := json.Unmarshal(text, &owner); err != nil || owner.GRPC == "" || owner.HTTP == "" {
		t.Fatalf("owner.json does not say where the doors are: %s, %v", text, err)
	}
	return &doors{world: w, grpc: owner.GRPC, http: owner.HTTP}
}

// bothFamilies returns an address of 127.0.0.1 and the same port at ::1, where
// this host has that.
func bothFamilies(t *testing.T, addr string) []string {
	t.Helper()
	lis, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Logf("this host has no IPv6, so only IPv4 is tried: %v", err)
		return []string{addr}
	}
	_ = lis.Close()
	return []string{addr, net.JoinHostPort("::1", portOf(t, addr))}
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// plainConn is what a program of the field has: no TLS, no metadata.
func plainConn(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// get asks the daemon over HTTP.
func (d *doors) get(method, path string) (status int, header http.Header, body string) {
	d.Helper()
	req, err := http.NewRequest(method, "http://"+d.http+path, nil)
	if err != nil {
		d.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// post sends a body, and returns the answer.
func (d *doors) post(path, body string) string {
	d.Helper()
	resp, err := http.Post("http://"+d.http+path, "application/json", strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatal(err)
	}
	return string(text)
}

// A route is a call over HTTP, with the names of parameters in its path.
type route struct{ Method, Path string }

func (r route) String() string { return r.Method + " " + r.Path }

// routes asks the daemon which calls there are: an unknown path is answered with
// all paths, and an unknown method with those that there are.
func (d *doors) routes() (all []route) {
	d.Helper()
	_, _, body := d.get(http.MethodGet, "/")
	var problem struct{ Detail string }
	if err := json.Unmarshal([]byte(body), &problem); err != nil {
		d.Fatalf("%s: %v", body, err)
	}
	_, list, _ := strings.Cut(problem.Detail, "there are ")
	for path := range strings.SplitSeq(list, ", ") {
		code, header, _ := d.get("BREW", filled(path))
		if code != http.StatusMethodNotAllowed {
			d.Fatalf("BREW %s is answered with %d", path, code)
		}
		for method := range strings.SplitSeq(header.Get("Allow"), ", ") {
			all = append(all, route{method, path})
		}
	}
	if !slices.Contains(all, route{http.MethodPost, "/queue/submit"}) {
		d.Fatalf("there is no call to submit among %v", all)
	}
	return all
}

// filled puts an id into a path where it has a parameter.
func filled(path string) string {
	before, _, found := strings.Cut(path, "{")
	if !found {
		return path
	}
	_, after, _ := strings.Cut(path, "}")
	return before + "mine" + after
}

// metrics returns the daemon's numbers, by name with labels.
func (d *doors) metrics() map[string]float64 {
	d.Helper()
	_, _, body := d.get(http.MethodGet, "/metrics")
	all := map[string]float64{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(line)
		space := strings.LastIndexByte(line, ' ') // there may be some in a label
		if space < 0 {
			d.Fatalf("/metrics says %q", line)
		}
		v, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			d.Fatal(err)
		}
		all[line[:space]] = v
	}
	return all
}

// answeredRequests returns how many requests the doors have answered or refused
// after they were let in, by the daemon's own count; those for /metrics, by which it
// is asked, are left out.
func (d *doors) answeredRequests() (n int) {
	d.Helper()
	for name, v := range d.metrics() {
		counted := strings.HasPrefix(name, "dspy_grpc_requests_total{") || strings.HasPrefix(name, "dspy_http_requests_total{")
		if counted && !strings.Contains(name, `path="/metrics"`) {
			n += int(v)
		}
	}
	return n
}

// holdMine submits a task named mine, which runs until the returned function is called.
func (d *doors) holdMine() (end func()) {
	d.Helper()
	gate := filepath.Join(d.runtime, "gate")
	d.submit(submission("mine", "while [ ! -e "+gate+" ]; do sleep 0.05; done"))
	d.eventually(time.Minute, "the task runs", func() bool { return d.all()["mine"].GetState() == "running" })
	return func() {
		d.Helper()
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			d.Fatal(err)
		}
		if info := d.await("mine"); info.GetState() != "succeeded" {
			d.Errorf("the task that strangers were not to touch %s: %s", info.GetState(), info.GetOutcome().GetMessage())
		}
	}
}

// wantOnlyMine fails unless the queue holds the task mine alone, and it runs.
func (d *doors) wantOnlyMine() {
	d.Helper()
	for id, info := range d.all() {
		if id != "mine" {
			d.Errorf("the queue holds %s (%s), which came by %q", id, info.GetState(), info.GetSubmittedVia())
		} else if info.GetState() != "running" || info.GetCancelAsked() {
			d.Errorf("the task that strangers were not to touch %s: %s", info.GetState(), info.GetOutcome().GetMessage())
		}
	}
}

// wantTools fails the test by name when a program is missing that it is about.
func wantTools(t *testing.T, why string, names ...string) (path string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs programs that scripts/setup-tests installs: make test runs it")
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("there is no %s on PATH, %s: run scripts/setup-tests as root", strings.Join(names, " or "), why)
	return ""
}

// python returns a Python that has the modules. That of Debian's packages is tried
// before the one that is first on PATH.
func python(t *testing.T, modules ...string) string {
	t.Helper()
	first := wantTools(t, "which programs of the field are written in", "python3")
	check := "import " + strings.Join(modules, ", ")
	var said []string
	for _, path := range slices.Compact([]string{"/usr/bin/python3", first}) {
		out, err := exec.Command(path, "-c", check).CombinedOutput()
		if err == nil {
			return path
		}
		said = append(said, fmt.Sprintf("%s: %v: %s", path, err, out))
	}
	t.Fatalf("no Python can %q: run scripts/setup-tests as root\n%s", check, strings.Join(said, "\n"))
	return ""
}
