package backendtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// escape leaves a process behind that is in a session of its own and a child of
// nobody who is left, and writes its pid to a file.
const escape = `setsid sh -c 'sh -c "echo \$\$ > %s.new; mv %s.new %s; exec sleep 1000" & exit 0'`

func escapeTo(t *testing.T) (script, pidFile string) {
	pidFile = filepath.Join(t.TempDir(), "pid")
	return fmt.Sprintf(escape, pidFile, pidFile, pidFile) + fmt.Sprintf("; while [ ! -e %s ]; do sleep 0.01; done; echo ready", pidFile), pidFile
}

func cancelEscaped(t *testing.T, e *engine) {
	script, pidFile := escapeTo(t)
	e.run(1, sh(script+"; sleep 1000"))
	e.awaitOutput(1, "ready\n")
	e.cancel(1)
	e.want(e.end(1), task.Cancelled)
	wantGone(t, pidFile)
}

func leftovers(t *testing.T, e *engine) {
	script, pidFile := escapeTo(t)
	e.run(1, sh(script))
	e.want(e.end(1), task.Succeeded)
	wantGone(t, pidFile)
}

func wantGone(t *testing.T, pidFile string) {
	t.Helper()
	if stat, gone := lookAt(t, pidFile); !gone {
		t.Fatalf("the process is still there: %s", stat)
	}
}

// lookAt says whether the process has ended whose pid is in the file.
func lookAt(t *testing.T, pidFile string) (stat string, gone bool) {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(b))
	if pid == "" {
		return "its pid is being written", false
	}
	b, err = os.ReadFile(filepath.Join("/proc", pid, "stat"))
	return string(b), err != nil || strings.Contains(string(b), ") Z ")
}
