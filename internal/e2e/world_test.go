package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// world is a workspace with a daemon that can be killed and started again.
type world struct {
	testing.TB
	bin, workspace, runtime string
	env                     []string
	queueDir                string

	mu      sync.Mutex
	current *daemon // the newest; nil before the first
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
