package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// binaries is where TestMain built the product: plain, and with failpoints.
var binaries struct{ plain, failpoint string }

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(play(role))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dspy-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for tests that act as another user
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binaries.plain, binaries.failpoint = filepath.Join(dir, "plain"), filepath.Join(dir, "failpoint")
	for _, b := range []struct{ out, tags string }{{binaries.plain, ""}, {binaries.failpoint, "failpoint"}} {
		if err := os.Mkdir(b.out, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		cmd := exec.Command("go", "build", "-tags", b.tags, "-o", b.out, "../../cmd/...")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the product: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// full says whether the long rounds are wanted.
func full() bool { return os.Getenv("DSPY_TEST_FULL") != "" }

// rounds returns few, or many in the long run.
func rounds(few, many int) int {
	if full() {
		return many
	}
	return few
}

// world is a workspace with a daemon that can be killed and started again.
type world struct {
	testing.TB
	bin, workspace, runtime string
	env                     []string
	queueDir                string

	mu      sync.Mutex
	current *daemon // the newest; nil before the first
}

type daemon struct {
	cmd  *exec.Cmd
	dead chan struct{} // closed when it has ended
}

func newWorld(tb testing.TB, bin string) *world {
	tb.Helper()
	if err := watchSources(); err != nil {
		tb.Fatal(err)
	}
	// The path of a Unix socket is short; t.TempDir can be long.
	root, err := os.MkdirTemp("", "dw")
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{TB: tb, bin: bin, workspace: filepath.Join(root, "w"), runtime: filepath.Join(root, "r")}
	for _, d := range []string{w.workspace, w.runtime} {
		if err := os.Mkdir(d, 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	w.queueDir = filepath.Join(w.workspace, "logs", "env_queue")
	w.env = []string{"XDG_RUNTIME_DIR=" + w.runtime, "PATH=" + os.Getenv("PATH"), "HOME=" + root}
	tb.Cleanup(func() {
		if tb.Failed() {
			w.logTasks()
		}
		w.tearDown()
		if tb.Failed() {
			w.Logf("the daemon's log ends with:\n%s", tail(filepath.Join(w.workspace, "logs", "orchestrator.log"), 60))
			w.Logf("the supervisor's log ends with:\n%s", tail(filepath.Join(w.runtime, "dspy-agent", "supervisor.log"), 20))
		}
		if err := os.RemoveAll(root); err != nil {
			tb.Errorf("remove the world: %v", err)
		}
	})
	return w
}

// logTasks shows what is known about tasks, if the daemon can be asked.
func (w *world) logTasks() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := w.dial(ctx)
	if err != nil {
		return
	}
	defer c.Close()
	page, err := c.ListTasks(ctx, &pb.ListTasksRequest{Limit: 20})
	if err != nil {
		return
	}
	for _, t := range page.GetTasks() {
		w.Logf("%s is %s, attempt %d: %s", t.GetId(), t.GetState(), t.GetAttempt(), t.GetOutcome().GetMessage())
		if full, err := c.GetTask(ctx, &pb.GetTaskRequest{TaskId: t.GetId()}); err == nil && full.GetLogPath() != "" {
			w.Logf("its output ends with:\n%s", tail(full.GetLogPath(), 5))
		}
	}
}

// daemon returns the newest daemon, dead or alive; nil before the first start.
func (w *world) daemon() *daemon {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// tearDown ends the daemon, what still runs, and the supervisor: politely, so
// that it removes its cgroups.
func (w *world) tearDown() {
	if w.daemon() != nil {
		w.killDaemon()
	}
	w.killTasks()
	for _, pid := range w.supervisor() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	for late := time.Now().Add(5 * time.Second); len(w.supervisor()) > 0 && time.Now().Before(late); {
		pauseFor(5 * time.Millisecond)
	}
	w.killSupervisor()
	w.killTasks() // begun in the meantime
}

func (w *world) killTasks() {
	for _, pid := range w.tasks() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// start runs the daemon and returns once it accepts calls. With failpoints it
// may die before; then ok is false. Other goroutines than the test's use launch.
func (w *world) start(extraEnv ...string) (ok bool) {
	w.Helper()
	ok, err := w.launch(extraEnv...)
	if err != nil {
		w.Fatal(err)
	}
	return ok
}

// launch is start, and may be called by any goroutine.
func (w *world) launch(extraEnv ...string) (ok bool, err error) {
	d, said, err := w.spawn(extraEnv...)
	if err != nil {
		return false, err
	}
	if said == nil {
		<-d.dead
		return false, nil
	}
	if !said.OK {
		return false, fmt.Errorf("the daemon did not start: %s", said.Error)
	}
	return true, nil
}

// startPatience is how long a daemon may take to say that it accepts calls.
const startPatience = 30 * time.Second

// announcement is what a daemon says once, when it accepts calls or cannot.
type announcement struct {
	OK          bool
	Code, Error string
}

// spawn runs the daemon and returns what it says; nil when it died before.
func (w *world) spawn(extraEnv ...string) (*daemon, *announcement, error) {
	r, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	defer pw.Close()
	out, err := os.OpenFile(filepath.Join(w.runtime, "daemon.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(w.bin, "orchestrator"), "--workspace", w.workspace, "--ready-fd", "3")
	cmd.Env = append(append([]string{}, w.env...), extraEnv...)
	cmd.ExtraFiles = []*os.File{pw}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	d := &daemon{cmd: cmd, dead: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // killed, mostly
		close(d.dead)
	}()
	w.mu.Lock()
	w.current = d
	w.mu.Unlock()
	if err := pw.Close(); err != nil {
		return d, nil, err
	}
	if err := r.SetReadDeadline(time.Now().Add(startPatience)); err != nil {
		return d, nil, err
	}
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it shows where it hangs
		<-d.dead
		return d, nil, fmt.Errorf("the daemon said nothing for %s:\n%s", startPatience, tail(filepath.Join(w.runtime, "daemon.out"), 300))
	}
	if err != nil {
		return d, nil, nil //nolint:nilerr // it died without a word, which may be what was wanted
	}
	var said announcement
	if err := json.Unmarshal(line, &said); err != nil {
		return d, nil, fmt.Errorf("the daemon said %q: %w", line, err)
	}
	return d, &said, nil
}

func (w *world) mustStart(extraEnv ...string) {
	w.Helper()
	if !w.start(extraEnv...) {
		w.Fatalf("the daemon died at its start:\n%s", tail(filepath.Join(w.runtime, "daemon.out"), 40))
	}
}

func (w *world) killDaemon() {
	d := w.daemon()
	_ = d.cmd.Process.Kill()
	<-d.dead
}

// endDaemon asks the daemon to leave, and waits until it has.
func (w *world) endDaemon() {
	w.Helper()
	d := w.daemon()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.Fatal(err)
	}
	select {
	case <-d.dead:
	case <-time.After(30 * time.Second):
		w.Fatal("the daemon does not leave after SIGTERM")
	}
}

// supervisor returns the pids of this world's supervisor: none or one, or for a
// moment the one that starts it.
func (w *world) supervisor() []int {
	return pids(func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(b), "\x00")
		return err == nil && len(args) > 1 && args[1] == "supervise" && strings.Contains(string(b), w.runtime)
	})
}

func (w *world) killSupervisor() {
	for _, pid := range w.supervisor() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// tasks returns the processes of tasks of this world, by the mark in their
// environment and by where it says their result belongs.
func (w *world) tasks() []int {
	return pids(func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err == nil && bytes.Contains(b, []byte("DSPY_RESULT_FILE="+w.queueDir))
	})
}

func pids(match func(int) bool) []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && match(pid) {
			out = append(out, pid)
		}
	}
	return out
}

// dial connects to the daemon.
func (w *world) dial(ctx context.Context) (*api.Client, error) {
	c, err := config.Load(config.Given{WorkspaceFlag: w.workspace, Cwd: "/"})
	if err != nil {
		return nil, err
	}
	socket := runtimedir.SocketPath(runtimedir.Path(w.runtime, os.Getuid()), c.QueueDir)
	return api.Dial(ctx, api.Target{Socket: socket, Workspace: w.workspace})
}

func (w *world) client() *api.Client {
	w.Helper()
	c, err := w.dial(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// submission is a task that runs a shell line.
func submission(id, line string, change ...func(*pb.SubmitTaskRequest)) *pb.SubmitTaskRequest {
	req := &pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{
		Argv: []string{"/bin/sh", "-c", line}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"},
	}}
	for _, f := range change {
		f(req)
	}
	return req
}

// persistently repeats a call until it is answered, whatever is killed meanwhile.
func (w *world) persistently(call func(context.Context, *api.Client) error) {
	w.Helper()
	if err := w.retry(call); err != nil {
		w.Fatal(err)
	}
}

// retry is persistently, and may be called by any goroutine.
func (w *world) retry(call func(context.Context, *api.Client) error) error {
	deadline := time.Now().Add(2 * time.Minute)
	var last error
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		last = func() error {
			c, err := w.dial(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			return call(ctx, c)
		}()
		cancel()
		if last == nil {
			return nil
		}
		pauseFor(20 * time.Millisecond)
	}
	return fmt.Errorf("the call was never answered: %w", last)
}

// submit submits until it is accepted.
func (w *world) submit(reqs ...*pb.SubmitTaskRequest) {
	w.Helper()
	if err := w.trySubmit(reqs...); err != nil {
		w.Fatal(err)
	}
}

// trySubmit is submit, and may be called by any goroutine.
func (w *world) trySubmit(reqs ...*pb.SubmitTaskRequest) error {
	var refused error
	err := w.retry(func(ctx context.Context, c *api.Client) error {
		got, err := c.SubmitTasks(ctx, &pb.SubmitTasksRequest{Tasks: reqs})
		if err != nil {
			return err
		}
		for _, r := range got.GetResults() {
			if !r.GetSuccess() {
				refused = fmt.Errorf("refused: %s", r.GetError())
			}
		}
		return nil
	})
	return errors.Join(err, refused)
}

// settle waits until no task waits or runs, and returns all of them by id.
func (w *world) settle(limit time.Duration) map[string]*pb.TaskInfo {
	w.Helper()
	deadline := time.Now().Add(limit)
	for {
		var open int64
		w.persistently(func(ctx context.Context, c *api.Client) error {
			h, err := c.Health(ctx, &pb.HealthRequest{})
			if err != nil {
				return err
			}
			open = 0
			for _, cl := range h.GetClasses() {
				for state, n := range cl.GetStates() {
					switch state {
					case "pending", "assigned", "starting", "running", "stopping":
						open += n
					}
				}
			}
			return nil
		})
		if open == 0 {
			return w.all()
		}
		if time.Now().After(deadline) {
			for id, t := range w.all() {
				switch t.GetState() {
				case "succeeded", "failed", "cancelled", "lost":
				default:
					w.Logf("%s is %s, attempt %d: %s", id, t.GetState(), t.GetAttempt(), t.GetDetail())
				}
			}
			w.Fatalf("%d tasks have not ended after %s", open, limit)
		}
		pauseFor(50 * time.Millisecond)
	}
}

func (w *world) all() map[string]*pb.TaskInfo {
	w.Helper()
	out := make(map[string]*pb.TaskInfo)
	w.persistently(func(ctx context.Context, c *api.Client) error {
		var before uint64
		for {
			page, err := c.ListTasks(ctx, &pb.ListTasksRequest{Limit: 1000, BeforeSeq: before})
			if err != nil {
				return err
			}
			for _, t := range page.GetTasks() {
				out[t.GetId()] = t
			}
			if before = page.GetNextBeforeSeq(); before == 0 {
				return nil
			}
		}
	})
	return out
}

// runs counts how often each task wrote its id into the file "ran".
func (w *world) runs() map[string]int {
	out := make(map[string]int)
	b, err := os.ReadFile(filepath.Join(w.workspace, "ran"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		out[strings.TrimSuffix(line, "\n")]++
	}
	return out
}

// eventually waits for something that nobody announces.
func (w *world) eventually(limit time.Duration, what string, cond func() bool) {
	w.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			w.Fatalf("%s: not after %s", what, limit)
		}
		pauseFor(5 * time.Millisecond)
	}
}

// pauseFor spaces out looks at something outside this process.
func pauseFor(d time.Duration) {
	<-time.After(d) // polls
}

func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
