package cli

import (
	"context"
	"errors"
	"fmt"
)

// errDrainLeft says that a drain had the queue and has left it.
var errDrainLeft = errors.New("a drain has left the queue")

// takeFromDrain asks a drain to leave, and waits until it has: a daemon does all that
// it does, and more. What it has started goes on. It leaves at SIGTERM, which stops
// nothing: it commits what it knows, and lets go of the queue. found is true when it
// stays; else the error is errDrainLeft.
func (s *session) takeFromDrain(ctx context.Context, pid int) (found bool, err error) {
	process, err := terminate(pid)
	if errors.Is(err, errGone) {
		return false, errDrainLeft
	}
	if err != nil {
		return true, err
	}
	defer process.Close()
	defer s.err.settle()
	if err := awaitEnd(ctx, process, stopTimeout, s.tellLeaving(pid)); err != nil && !errors.Is(err, errGone) {
		return true, fmt.Errorf("a drain (pid %d) has the queue and does not let go of it: %w", pid, err)
	}
	s.out.printf("took over from a drain, pid %d\n", pid)
	return false, errDrainLeft
}
