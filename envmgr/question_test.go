package envmgr

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// TestTimeoutsOfKinds: the policy's timeout is not for commands and health checks, which
// have longer ones of their own, and not for who has said another.
func TestTimeoutsOfKinds(t *testing.T) {
	t.Parallel()
	for what, x := range map[string]struct {
		ready probe.Spec
		want  time.Duration
	}{
		"a port":      {probe.Spec{Kind: probe.Redis}, Defaults().ProbeTimeout},
		"a command":   {probe.Spec{Kind: probe.Exec, Command: []string{"x"}}, 0},
		"its health":  {probe.Spec{Kind: probe.Health}, 0},
		"as was said": {probe.Spec{Kind: probe.TCP, Port: 1, Timeout: time.Hour}, time.Hour},
	} {
		if got := (Definition{Ready: x.ready}).question(Defaults()).Timeout; got != x.want {
			t.Errorf("%s: %v, want %v", what, got, x.want)
		}
	}
}

// TestUnendedCommands: the pauses after commands that do not end grow, and so do not after
// other failures.
func TestUnendedCommands(t *testing.T) {
	t.Parallel()
	d := plain
	d.Ready = probe.Spec{Kind: probe.Exec, Command: []string{"check"}}
	e := Epoch{ID: "x", Started: began}
	s := State{Epoch: e}
	silent := probe.Result{Err: fmt.Errorf("it did not end: %w", probe.ErrSilent)}
	now, asked := began, 0
	for ; now.Sub(began) < time.Hour; asked++ {
		s = s.Probed(d, Defaults(), e, silent, now)
		now = s.Probe.Next
	}
	if asked > 20 {
		t.Errorf("%d were left in an hour", asked)
	}
	s = s.Probed(d, Defaults(), e, probe.Result{Err: errors.Join(probe.ErrFailed)}, now)
	if wait := s.Probe.Next.Sub(now); wait > 2*time.Second {
		t.Errorf("after one that ended it waits %v", wait)
	}
}
