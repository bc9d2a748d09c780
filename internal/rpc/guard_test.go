package rpc

import (
	"testing"
	"time"
)

// TestGuardDoesNotGoByTheWall: a reader is not cut off because the clock was set, nor kept.
// The time of Go has both clocks, of which only the wall clock is in its text.
func TestGuardDoesNotGoByTheWall(t *testing.T) {
	t.Parallel()
	g := newGuard(time.Now)
	_ = g.watch(func() error {
		if g.stalled(time.Hour) {
			t.Error("it is stalled at once")
		}
		if !g.stalled(0) {
			t.Error("it is not stalled after no time at all")
		}
		if since := time.Duration(g.since.Load()); since <= 0 || since > time.Minute {
			t.Errorf("it counts from %s, which is no time of the monotonic clock", since)
		}
		return nil
	})
	if g.stalled(0) {
		t.Error("it is stalled when nothing waits")
	}
}
