package envmgr

import (
	"errors"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// Pauses after a command in a container that did not end in time.
const leftFirst, leftLast = 5 * time.Second, 5 * time.Minute

// leftBehind is how long to wait after a probe because of what it left behind: a command
// that did not end in time goes on in the container, where no engine ends it, and the next
// one would be beside it. It grows, so that they do not fill the container.
func leftBehind(s probe.Spec, r probe.Result, fails int) time.Duration {
	if s.Kind != probe.Exec || !errors.Is(r.Err, probe.ErrSilent) {
		return 0
	}
	return doubled(leftFirst, leftLast, max(fails-1, 0))
}
