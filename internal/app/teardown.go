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
		if err := s.stop(ctx); err != nil {
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
