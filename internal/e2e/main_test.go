package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/gputest"
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
	return gputest.Main(m)
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
