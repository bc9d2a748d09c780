package api

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
)

// TestReadyAfter: how long a start took is said by who has seen it, only.
func TestReadyAfter(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s := envmgr.Status{Phase: envmgr.Ready, Started: started, ReadyAt: started.Add(2 * time.Second)}
	if got := message(s); got != "ready 2s after its start" {
		t.Errorf("it says %q", got)
	}
	if s.Found = true; message(s) != "ready" {
		t.Errorf("of one that ran before it says %q", message(s))
	}
}
