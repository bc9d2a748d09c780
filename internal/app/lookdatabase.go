package app

import (
	"context"
	"errors"

	"github.com/dspy-agent/dspy-agent/queue"
)

// mostLooked is the size up to which a database is looked at in whole while somebody waits.
const mostLooked = 64 << 20

// LookAtDatabase says what is wrong with a queue that nobody has open, without changing
// anything: with all of a small one, and with the opening of a large one. looked is false
// where there is no queue, or somebody has it.
func LookAtDatabase(ctx context.Context, queueDir string) (wrong []string, looked bool, err error) {
	if !queue.Present(queueDir) {
		return nil, false, nil
	}
	opts := queue.Options{Dir: queueDir, ReadOnly: true, Glance: true, LockTimeout: lookPatience, Program: ownProgram}
	if queue.Size(queueDir) > mostLooked {
		q, err := queue.Open(ctx, opts)
		if err == nil {
			return nil, true, q.Close()
		}
		return nil, false, unlessLocked(err)
	}
	v, err := queue.Verify(ctx, opts, nil)
	for _, f := range v.Findings {
		wrong = append(wrong, f.String())
	}
	return wrong, err == nil, unlessLocked(err)
}

// unlessLocked leaves out that somebody else has the queue.
func unlessLocked(err error) error {
	if errors.Is(err, queue.ErrLocked) {
		return nil
	}
	return err
}
