package process

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// An attempt is not claimed any more once the clerks may have gone: nobody would begin
// it, and its claim would say that it may have run.
func TestNoClaimAtTheEnd(t *testing.T) {
	for _, over := range []bool{false, true} {
		s := bareSupervisor(t)
		if !over {
			s.left = make(chan struct{})
		}
		s.maxActive = 1
		q := testQueue(t, s, "q")
		a := newAttempt(q, name(1), &supervisorpb.Claim{})
		q.poolOf("").waiting = []*attempt{a}
		s.mu.Lock()
		s.pump(q)
		s.mu.Unlock()
		if claimed, written := a.phase == claimed, q.journal.pending(); claimed == over || written == over {
			t.Errorf("at the end: %v. It is claimed: %v, in the journal: %v", over, claimed, written)
		}
	}
}
