package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// stopTimeout bounds each step of a stop. A part that has not stopped by then is
// named in the error and left behind; the process is about to end anyway, and
// everything that counts is on disk.
const stopTimeout = 10 * time.Second

// teardown is a stack of named steps, undone last in first out.
type teardown struct {
	log   *slog.Logger
	steps []step
}

type step struct {
	name string
	stop func(context.Context) error
}

// errTooSlow is returned for a part that did not stop in time.
var errTooSlow = errors.New("it did not stop in time and is left behind")

// within runs f, and leaves it behind when ctx ends first.
func within(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errTooSlow
	}
}

// push registers how to undo what was just done.
func (d *teardown) push(name string, stop func(context.Context) error) {
	d.steps = append(d.steps, step{name, stop})
}

// run undoes everything and joins the errors of the steps that failed.
func (d *teardown) run() error {
	var errs []error
	for _, s := range slices.Backward(d.steps) {

		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		began := time.Now()
		if err := within(ctx, func() error { return s.stop(ctx) }); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
		cancel()
		if took := time.Since(began); took > time.Second {
			d.log.Warn("a part was slow to stop", "part", s.name, "took", took)
		}
	}
	d.steps = nil
	return errors.Join(errs...)
}
