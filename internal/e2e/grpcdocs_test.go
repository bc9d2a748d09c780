package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGRPCDocs runs the program of docs/grpc.md. protoc is not needed for it: the stubs are
// made of the same descriptors.
func TestGRPCDocs(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "grpc", "google.protobuf")
	page, err := os.ReadFile("../../docs/grpc.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```python\n")
	program, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/grpc.md has no program")
	}
	d := openDoors(t)
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), interpreter, "testdata/grpc_stubs.py", descriptorSet(t), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "program.py"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, "program.py")
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", "ORCHESTRATOR_GRPC_ADDR=" + d.grpc}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := string(out)
	for _, want := range []string{"good succeeded\n", "good completed \n", "bad failed ended with exit code 3", "\nfine\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}
