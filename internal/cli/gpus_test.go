package cli

import (
	"bytes"
	"strings"
	"testing"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func gpuTable(list []*pb.GPUStatus, short bool, cols int) string {
	var b bytes.Buffer
	g := gpuGrid(list, short)
	g.render(&screen{w: &b, fd: -1, tty: true, unicode: true}, cols)
	return b.String()
}

// TestGPUNames: what a terminal shows of a UUID is enough to name the GPU by, and is not
// cut; wide shows all of it.
func TestGPUNames(t *testing.T) {
	t.Parallel()
	list := []*pb.GPUStatus{
		{Id: "GPU-8a2f01c4-aaaa-bbbb-cccc-000000000001", Kind: "gpu", State: "held", Model: "NVIDIA H100 80GB HBM3", Holders: []string{"train-the-large-one-once-more"}},
		{Id: "GPU-8a2f01c7-aaaa-bbbb-cccc-000000000002", Kind: "gpu", State: "drained", Because: "somebody is to look at the fan of it", Index: 1},
		{Id: "GPU-0b3d0000-aaaa-bbbb-cccc-000000000003", Kind: "gpu", State: "free", Index: 2},
	}
	for _, cols := range []int{80, 100, 200} {
		text := gpuTable(list, true, cols)
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimSpace(line))); n > cols {
				t.Errorf("%d columns in a terminal of %d: %q", n, cols, line)
			}
		}
		for _, want := range []string{"GPU-8a2f01c4\n", "GPU-8a2f01c7\n", "GPU-0b3d0000\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("at %d columns %q is not in\n%s", cols, want, text)
			}
		}
	}
	wide := gpuTable(list, false, 1<<20)
	for _, g := range list {
		if !strings.Contains(wide, g.GetId()) {
			t.Errorf("%s is not in\n%s", g.GetId(), wide)
		}
	}
	if got := beginnings([]string{"GPU-8a2f01c4-1", "GPU-8a2f01c4-2", "short"}); got[0] != "GPU-8a2f01c4-1" || got[1] != "GPU-8a2f01c4-2" || got[2] != "short" {
		t.Errorf("%v", got)
	}
}

// TestInstanceNames: an instance has no other name than its UUID, which is there however
// narrow the terminal is.
func TestInstanceNames(t *testing.T) {
	t.Parallel()
	list := []*pb.GPUStatus{
		{Id: "MIG-00000000-0000-0000-0000-000000000001", Kind: "mig", Profile: "1g.10gb", State: "free"},
		{Id: "MIG-00000000-0000-0000-0000-000000000002", Kind: "mig", Profile: "1g.10gb", State: "free"},
	}
	if text := gpuTable(list, true, 80); !strings.Contains(text, list[0].GetId()) || !strings.Contains(text, list[1].GetId()) {
		t.Errorf("%s", text)
	}
}

// TestKeptGPU: a GPU that is kept for a task says so.
func TestKeptGPU(t *testing.T) {
	t.Parallel()
	g := &pb.GPUStatus{Id: "GPU-1", Kind: "gpu", State: "free", ReservedFor: "big"}
	if got := gpuState(g); got != "free (kept for task big)" {
		t.Errorf("%q", got)
	}
	if got := gpuJSON(g).ReservedFor; got != "big" {
		t.Errorf("in JSON %q", got)
	}
}
