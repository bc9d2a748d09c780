package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/gputest"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// newDockerWorld is a world whose machine has GPUs, and an engine that gives them to
// containers.
func newDockerWorld(t *testing.T, config string) (*world, *gputest.Machine, *dockertest.Engine) {
	t.Helper()
	e := dockertest.Start(t, dockertest.Config{}) // before the world, so that it outlives it
	e.LoadShell(t)
	w, m := newGPUWorld(t, config)
	w.env = append(w.env, "DOCKER_HOST="+e.Address())
	return w, m, e
}

// inContainer runs the task in a container that sees the workspace.
func (w *world) inContainer(r *pb.SubmitTaskRequest) {
	r.Spec.Image = dockertest.Shell
	r.Spec.Mounts = []*pb.Mount{{HostPath: w.workspace, MountPath: w.workspace}}
}

// TestGPUStorm: tasks on eight GPUs, processes and containers, write down which they have,
// when they begin and when they end, while the daemon is killed again and again. No GPU is
// had by two at a time.
func TestGPUStorm(t *testing.T) {
	t.Parallel()
	tasks, kills := rounds(60, 300), rounds(6, 25)
	const containers = 10 // each so-many-th is one
	w, _, e := newDockerWorld(t, gputest.GPUs(8))
	w.configure(gpuConfig(t, filepath.Join(filepath.Dir(w.workspace), "locks")) + "visible = \"uuid\"\n")
	w.mustStart()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	log := filepath.Join(w.workspace, "log")
	note := `echo "$DSPY_TASK_ID ${CUDA_VISIBLE_DEVICES:-$NVIDIA_VISIBLE_DEVICES} %s" >> ` + log
	line := fmt.Sprintf(note+"; sleep 0.$(($$ %% 4)); "+note, "begin", "end")
	var wg sync.WaitGroup
	wg.Go(func() {
		for sent := range tasks {
			s := submission(fmt.Sprint("t", sent), line, onGPUs(1+rnd.IntN(3)))
			if sent%containers == 0 {
				w.inContainer(s)
			}
			if err := w.trySubmit(s); err != nil {
				t.Error(err)
				return
			}
		}
	})
	killing := rand.New(rand.NewPCG(seed, 2))
	for range kills {
		pauseFor(time.Duration(50+killing.IntN(600)) * time.Millisecond)
		w.killDaemon()
		w.mustStart()
	}
	wg.Wait()
	for id, info := range w.settle(5 * time.Minute) {
		if info.GetState() != "succeeded" {
			t.Errorf("%s ended as %s: %s", id, info.GetState(), info.GetOutcome().GetMessage())
		}
	}
	uses := usesIn(t, log)
	for gpu, list := range uses {
		for i := 1; i < len(list); i++ {
			if list[i].from < list[i-1].to {
				t.Errorf("GPU %s: %s had it in lines %d to %d, and %s from line %d", gpu, list[i-1].task, list[i-1].from, list[i-1].to, list[i].task, list[i].from)
			}
		}
	}
	if len(uses) != 8 {
		t.Errorf("%d of 8 GPUs were used", len(uses))
	}
	if n := len(e.Given(t)); n != (tasks+containers-1)/containers {
		t.Errorf("%d containers were given GPUs", n)
	}
}

// use is that a task had a GPU, from one line to another of the file in which all say so:
// in a file that is appended to, what comes later was later.
type use struct {
	task     string
	from, to int
}

// usesIn reads who had which GPU, in the order of their beginnings.
func usesIn(t *testing.T, path string) map[string][]use {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begun, out := map[string]int{}, map[string][]use{}
	number := 0
	for line := range bytes.Lines(b) {
		number++
		f := strings.Fields(string(line))
		switch {
		case len(f) != 3:
			t.Fatalf("a line %q", line)
		case f[2] == "begin" && begun[f[0]] != 0:
			t.Errorf("%s ran twice", f[0])
		case f[2] == "begin":
			begun[f[0]] = number
		default:
			for gpu := range strings.SplitSeq(f[1], ",") {
				out[gpu] = append(out[gpu], use{f[0], begun[f[0]], number})
			}
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b use) int { return a.from - b.from })
	}
	return out
}
