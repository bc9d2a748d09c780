package cli

import (
	"slices"
	"strings"
	"testing"
)

// TestWorkerGPUs: no GPU is given to two tasks, and none that has no name.
func TestWorkerGPUs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil, "0": {"0"}, "0,1": {"0", "1"}, "GPU-a,MIG-b": {"GPU-a", "MIG-b"},
	} {
		if got, err := gpuList(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"0,": "without a name", ",": "without a name", "0, 1": "without a name", "0,0": "GPU 0 twice", "1,0,1": "GPU 1 twice",
	} {
		got, err := gpuList(text)
		if err == nil {
			t.Errorf("%q: %q", text, got)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, want) {
			t.Errorf("%q: %s", text, msg)
		}
	}
	env := testEnv(t)
	expect(t, env, exitUsage, "", "--gpus: ", "worker", "--gpus", "0,0")
}
