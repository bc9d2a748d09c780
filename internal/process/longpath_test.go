package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The runtime directory may have a path that is too long for a Unix socket. The
// supervisor is reached all the same, replaced, and leaves no socket behind.
func TestPathTooLongForASocket(t *testing.T) {
	p := newPlace(t)
	p.dir = filepath.Join(p.dir, strings.Repeat("long", 30))
	must(t, os.MkdirAll(p.runtime(), 0o700))
	if n := len(filepath.Join(p.runtime(), socketName)); n <= maxSocketPath {
		t.Fatalf("%d bytes are not too long", n)
	}
	d := p.daemon(t, p.options("q"))
	gate := filepath.Join(p.dir, "gate")
	tk := assigned(t, 1, sh(waitFor(gate)+"exit 0"))
	d.launch(tk)
	d.await(tk.Ref(), task.EventStarted)
	first := p.supervisorPid(t)
	p.signalSupervisor(t, unix.SIGKILL)
	p.awaitSupervisor(t, first)
	openGate(t, gate)
	d.end(tk.Ref())
	d.stop()
	p.endSupervisor(t)
	if _, err := os.Lstat(filepath.Join(p.runtime(), socketName)); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
