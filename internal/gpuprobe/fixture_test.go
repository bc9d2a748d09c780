package gpuprobe

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/internal/gputest"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// parentEnv makes a run of this binary the parent that a test kills; it holds the
// command of the probe.
const parentEnv = "GPUPROBE_TEST_PARENT"

func TestMain(m *testing.M) {
	if argv := os.Getenv(parentEnv); argv != "" {
		w := New(Options{Probe: strings.Split(argv, "\x1f"), Env: os.Environ(), Period: 10 * time.Millisecond})
		_ = w.Run(context.Background())
		return
	}
	code := gputest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// enough is for a busy machine; only what is broken takes so long.
const enough = 30 * time.Second

// poll waits for what another process does.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(enough)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: does not come", what)
		}
	}
}

// argv is a gpu-probe on the fake library.
func argv(t *testing.T) []string {
	t.Helper()
	return []string{gputest.Probe(t), "--library", gputest.Library(t, gputest.Newest)}
}

// watch runs a Watcher until the test ends, and sees that it ends then.
func watch(t *testing.T, m *gputest.Machine, change func(*Options)) *Watcher {
	t.Helper()
	o := Options{
		Probe: argv(t), Env: append(os.Environ(), m.Env()...), Period: 20 * time.Millisecond,
		Stale: 2 * time.Second, CallLimit: 3 * time.Second, Pause: 10 * time.Millisecond, MaxPause: 50 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	w := New(o)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(enough):
			t.Error("Run does not end")
		}
		for _, pid := range callers(m) {
			if alive(pid) {
				t.Errorf("gpu-probe %d is left", pid)
			}
		}
	})
	return w
}

// up waits until there is a view to place by.
func up(t *testing.T, w *Watcher) {
	t.Helper()
	poll(t, "a view", func() bool { return w.Down() == "" })
}

// callers are the probes that were, in the order of their last call.
func callers(m *gputest.Machine) []int {
	var pids []int
	for _, text := range m.Callers() {
		pid, err := strconv.Atoi(text)
		if err == nil {
			pids = append(slices.DeleteFunc(pids, func(p int) bool { return p == pid }), pid)
		}
	}
	return pids
}

// latest is the probe that called last.
func latest(t *testing.T, m *gputest.Machine) int {
	t.Helper()
	pids := callers(m)
	if len(pids) == 0 {
		t.Fatal("no probe has called")
	}
	return pids[len(pids)-1]
}

func alive(pid int) bool {
	st, err := host.ReadStat(pid)
	return err == nil && st.State != 'Z'
}
