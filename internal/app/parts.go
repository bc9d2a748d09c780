package app

import "context"

// parts are what works side by side while the daemon serves.
type parts struct {
	ended   chan struct{} // closed when one has failed
	failure error         // of that one; set before ended is closed
	failing chan struct{} // capacity 1: taken by the one that sets failure
}

func newParts() parts {
	return parts{ended: make(chan struct{}), failing: make(chan struct{}, 1)}
}

// fail ends the serving with the error of a part. Only the first counts, and it is
// told whether it was: what comes after it may follow from it.
func (p *parts) fail(err error) (first bool) {
	select {
	case p.failing <- struct{}{}:
		p.failure = err
		close(p.ended)
		return true
	default:
		return false
	}
}

// failureIfAny returns the error of the part that failed; nil = none has.
func (p *parts) failureIfAny() error {
	select {
	case <-p.ended:
		return p.failure
	default:
		return nil
	}
}

// run starts a part. It works until its teardown tells it to end, and waits for it, so
// that parts end in the reverse order of their start: what a part needs while it ends
// is still there.
func (a *App) run(name string, work func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := work(ctx)
		switch {
		case err == nil:
		case a.parts.fail(err):
			err = nil // it has been told
		case a.queue != nil && a.queue.Err() != nil: // Run tells of that: every part meets it, and says so in its own words
			a.log.Info("a part ended with the queue", "part", name, "error", err)
			err = nil
		}
		done <- err
	}()
	a.down.push(name, func(context.Context) error {
		stop()
		return <-done
	})
}
