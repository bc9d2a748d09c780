package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/gputest"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// onInstance asks for a MIG instance.
func onInstance(profile string) func(*pb.SubmitTaskRequest) {
	return func(r *pb.SubmitTaskRequest) {
		r.Spec.Resources = &pb.Resources{Mig: profile, CpuMillicores: 100}
	}
}

// TestGPUInstance: a task gets a MIG instance of its profile, and is told its UUID; so is
// one with a whole GPU beside it. Whoever waits for one says for which and why.
func TestGPUInstance(t *testing.T) {
	t.Parallel()
	const first, second = "MIG-00000000-0000-0000-0000-000000000000", "MIG-00000000-0000-0000-0000-000000000001"
	w, _ := newGPUWorld(t, "[gpu 0]\nmig = 1\n[mig 0 0]\n[mig 0 1]\n[gpu 1]\n")
	w.mustStart()
	go1 := filepath.Join(w.workspace, "go")
	line := func(id string) string {
		return `echo "$CUDA_VISIBLE_DEVICES" > ` + filepath.Join(w.workspace, id) + `; while [ ! -e ` + go1 + ` ]; do sleep 0.02; done`
	}
	w.submit(
		submission("a", line("a"), onInstance("1g.10gb")), submission("b", line("b"), onInstance("1g.10gb")), submission("whole", line("whole"), onGPUs(1)),
		submission("c", line("c"), onInstance("1g.10gb")), submission("other", "true", onInstance("3g.40gb")),
	)
	w.eventually(time.Minute, "they run", func() bool {
		return !slices.ContainsFunc([]string{"a", "b", "whole"}, func(id string) bool { return w.task(id).GetState() != "running" })
	})
	for id, want := range map[string]string{
		"c":     "needs a MIG instance 1g.10gb: 2 held by tasks a, b",
		"other": "needs a MIG instance 3g.40gb: this machine has the profiles 1g.10gb",
	} {
		if why := w.why(id); !strings.Contains(why, want) {
			t.Errorf("%s waits: %q, want %q", id, why, want)
		}
	}
	list := w.gpus()
	if g := list[gputest.UUID(0)]; g.GetState() != "mig" || len(g.GetHolders()) != 0 {
		t.Errorf("the GPU that is cut is %v", g)
	}
	if g := list[second]; g.GetState() != "held" || g.GetProfile() != "1g.10gb" || g.GetParent() != gputest.UUID(0) {
		t.Errorf("the second instance is %v", g)
	}
	if out := w.dspyOK("gpus", "drain", "MIG-00000000-0000-0000-0000-000000000001", "--reason", "why not"); !strings.Contains(out, "1g.10gb") {
		t.Errorf("drain said %s", out)
	}
	if err := os.WriteFile(go1, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	had := map[string]string{}
	for _, id := range []string{"a", "b", "c", "whole"} {
		if info := w.await(id); info.GetState() != "succeeded" {
			t.Fatalf("%s: %v", id, info)
		}
		b, err := os.ReadFile(filepath.Join(w.workspace, id))
		if err != nil {
			t.Fatal(err)
		}
		had[id] = strings.TrimSpace(string(b))
	}
	// The second instance is drained when c is placed.
	if both := []string{had["a"], had["b"]}; !slices.Contains(both, first) || !slices.Contains(both, second) || had["c"] != first || had["whole"] != gputest.UUID(1) {
		t.Errorf("they were told %v", had)
	}
}
