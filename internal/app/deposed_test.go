package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/queue"
)

// TestDeposedDaemonLeaves: a daemon whose queue was taken over ends by itself, says by
// whom, and leaves the new owner's name where it is.
func TestDeposedDaemonLeaves(t *testing.T) {
	o := testOptions(t)
	path := filepath.Join(o.Config.QueueDir, "owner.json")
	const other = `{"lease": "0123456789abcdef0123456789abcdef", "role": "drain", "host": "login2", "machine": "m", "boot_id": "b", "pid": 4711, "generation": 1}`
	o.Ready = func(string) {
		if err := errors.Join(os.WriteFile(path+".new", []byte(other), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Error(err)
		}
	}
	err := Run(t.Context(), o)
	if !errors.Is(err, queue.ErrDeposed) {
		t.Fatalf("it ended with %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, "pid 4711 (drain) on host login2") || !strings.Contains(msg, "Running tasks go on") {
		t.Errorf("it says %q", msg)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != other {
		t.Errorf("owner.json has %s now (%v)", b, err)
	}
}
