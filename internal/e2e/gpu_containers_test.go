package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

// TestGPUContainer: a container is given the GPUs of its task; what computes in it is the
// task's, not a stranger's, over kill -9 of the daemon too; what it had is told with its end.
func TestGPUContainer(t *testing.T) {
	t.Parallel()
	w, m, e := newDockerWorld(t, gputest.GPUs(2))
	w.mustStart()
	go1 := filepath.Join(w.workspace, "go")
	w.submit(
		submission("pair", `echo "$NVIDIA_VISIBLE_DEVICES" > `+w.workspace+`/pair; while [ ! -e `+go1+` ]; do sleep 0.05; done`, onGPUs(2), w.inContainer),
		submission("none", `echo "$NVIDIA_VISIBLE_DEVICES" > `+w.workspace+`/none`, w.inContainer),
	)
	w.eventually(time.Minute, "it runs", func() bool { return w.task("pair").GetState() == "running" })
	both := []string{gputest.UUID(0), gputest.UUID(1)}
	if given := e.Given(t); len(given) != 1 {
		t.Fatalf("given: %v", given)
	}
	var id string
	for c, uuids := range e.Given(t) {
		if id = c; !slices.Equal(uuids, both) {
			t.Errorf("it was given %v", uuids)
		}
	}
	is, err := e.Client(t).ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	m.Set(strings.Replace("[gpu 0]\nproc = PID 5GiB c -1 -1 50 10\n[gpu 1]\n", "PID", strconv.Itoa(is.State.Pid), 1))
	ours := func() bool {
		g := w.gpus()[gputest.UUID(0)]
		p := g.GetProcesses()
		return len(p) == 1 && p[0].GetOwner() == "task pair" && g.GetState() == "held" && !g.GetContended()
	}
	w.eventually(time.Minute, "its process is known as its own", ours)
	w.killDaemon()
	w.mustStart()
	w.eventually(time.Minute, "and by the next daemon", ours)
	if is, err := e.Client(t).ContainerInspect(t.Context(), id); err != nil || !is.State.Running {
		t.Errorf("its container does not run: %v", err)
	}
	if err := os.WriteFile(go1, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info := w.await("pair")
	if use := info.GetOutcome().GetGpu(); info.GetState() != "succeeded" || use.GetMemPeakBytes() != 5<<30 {
		t.Errorf("%v", info)
	}
	if info := w.await("none"); info.GetState() != "succeeded" {
		t.Errorf("%v", info)
	}
	for name, want := range map[string]string{"pair": strings.Join(both, ","), "none": "void"} {
		if got, err := os.ReadFile(filepath.Join(w.workspace, name)); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s was shown %q (%v), want %q", name, got, err, want)
		}
	}
	m.Set(gputest.GPUs(2))
	w.eventually(time.Minute, "what it has left is nobody's", func() bool { return w.gpus()[gputest.UUID(0)].GetState() == "free" })
}
