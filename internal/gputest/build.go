package gputest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// built is what one test binary has built so far.
var built struct {
	mu    sync.Mutex
	dir   string
	known map[string]string // name -> path
}

// Main runs the tests, and removes what they built.
func Main(m *testing.M) int {
	code := m.Run()
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, "gputest:", err)
			return 1
		}
	}
	return code
}

// Newest is the driver that a test uses if it does not care.
const Newest = 550

// Library returns the path of a libnvidia-ml.so.1 with the functions that a
// driver of that branch has: Newest, 470 or 390.
func Library(t testing.TB, driver int) string {
	t.Helper()
	name := filepath.Join(fmt.Sprint("driver-", driver), "libnvidia-ml.so.1")
	return build(t, name, func(to string) *exec.Cmd {
		project, header := modules(t)
		args := []string{
			"-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations", "-fPIC", "-shared", "-pthread",
			"-DNVML_NO_UNVERSIONED_FUNC_DEFS=1", fmt.Sprint("-DFAKE_DRIVER=", driver),
			"-I" + filepath.Join(header, "pkg/nvml"), "-o", to,
		}
		sources := filepath.Join(project, "gpu/nvml/testdata/fake")
		return exec.CommandContext(t.Context(), "gcc", append(args, filepath.Join(sources, "fake.c"), filepath.Join(sources, "config.c"))...)
	})
}

// Probe returns the path of a gpu-probe, built as make build does.
func Probe(t testing.TB) string {
	t.Helper()
	return build(t, "gpu-probe", func(to string) *exec.Cmd {
		project, _ := modules(t)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", to, "./cmd/gpu-probe")
		cmd.Dir = project
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-g -O2 -Wno-deprecated-declarations")
		return cmd
	})
}

// build runs a command that makes a file, once per test binary.
func build(t testing.TB, name string, command func(to string) *exec.Cmd) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc, to build a stand-in for the driver's library: apt-get install gcc libc6-dev")
	}
	built.mu.Lock()
	defer built.mu.Unlock()
	if path := built.known[name]; path != "" {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "gputest-") // for all tests of the binary
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.known = dir, map[string]string{}
	}
	path := filepath.Join(built.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := command(path).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	built.known[name] = path
	return path
}

// modules returns where the project lies, and where go-nvml, which has the header
// that the fake is built against.
func modules(t testing.TB) (project, nvml string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/dspy-agent/dspy-agent", "github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	dirs := strings.Fields(string(out))
	if len(dirs) != 2 {
		t.Fatalf("go list -m: %q", out)
	}
	return dirs[0], dirs[1]
}

// Header returns the path of NVML's header.
func Header(t testing.TB) string {
	t.Helper()
	_, nvml := modules(t)
	return filepath.Join(nvml, "pkg/nvml/nvml.h")
}

// Bindings returns the path of go-nvml's calls of C.
func Bindings(t testing.TB) string {
	t.Helper()
	_, nvml := modules(t)
	return filepath.Join(nvml, "pkg/nvml/nvml.go")
}
