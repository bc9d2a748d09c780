package tryopen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Limit is how long the child has for all its steps. With what comes before and
// after, people hear within five seconds.
const Limit = 4 * time.Second

// Step is something that the child did.
type Step struct {
	Name string
	Took time.Duration
}

// HungError is returned when the child has not come to its end in time.
type HungError struct {
	Step  string // that it was at
	After time.Duration
}

// Error names the step.
func (e *HungError) Error() string {
	return fmt.Sprintf("%s has not returned for %s", e.Step, e.After.Round(100*time.Millisecond))
}

// NoLocksError is returned for a file system that has no locks.
type NoLocksError struct{ Errno syscall.Errno }

// Error says why.
func (e *NoLocksError) Error() string { return "it has no file locks (" + e.Errno.Error() + ")" }

// Unwrap returns what flock(2) said.
func (e *NoLocksError) Unwrap() error { return e.Errno }

// ErrNoTrial is returned when the trial could not be made.
var ErrNoTrial = errors.New("the opening could not be tried")

// Run has the plan tried by a child and waits for it until the limit. The program is
// one whose main calls Main. What the child found out counts also beside an error.
func Run(ctx context.Context, program string, p Plan, limit time.Duration) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	plan, err := json.Marshal(p)
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrNoTrial, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrNoTrial, err)
	}
	defer r.Close()
	cmd := exec.Command(program, Arg, string(plan)) // no context: it would wait for a child that hangs
	cmd.Dir, cmd.Env, cmd.Stdout = "/", []string{}, w
	err = cmd.Start()
	_ = w.Close() // a copy is the child's
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrNoTrial, err)
	}
	l := listener{pipe: r, limit: limit}
	if err := l.listen(ctx); err != nil {
		return l.report, errors.Join(err, abandon(cmd.Process))
	}
	if err := cmd.Wait(); err != nil {
		return l.report, fmt.Errorf("%w: %w", ErrNoTrial, err)
	}
	return l.report, l.locks
}

// abandon kills the child and does not wait for it: where it hangs in the kernel it
// ends when that lets it go.
func abandon(p *os.Process) error {
	err := p.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, p.Release())
}

// listener hears what the child says.
type listener struct {
	pipe   *os.File
	limit  time.Duration
	report Report
	locks  error // a NoLocksError
}

func (l *listener) listen(ctx context.Context) error {
	began := time.Now()
	if err := l.pipe.SetReadDeadline(began.Add(l.limit)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoTrial, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.pipe.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	now := Step{Name: "starting"}
	since := began
	lines := json.NewDecoder(l.pipe)
	for {
		var say line
		err := lines.Decode(&say)
		if now.Took = time.Since(since); now.Took > l.report.Slowest.Took {
			l.report.Slowest = now
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return &HungError{Step: now.Name, After: now.Took}
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the child ended early, at: %s", ErrNoTrial, now.Name)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrNoTrial, err)
		}
		if say.Done {
			return nil
		}
		l.take(say)
		if say.Step != "" {
			now, since = Step{Name: say.Step}, time.Now()
		}
	}
}

func (l *listener) take(say line) {
	if say.Note != nil {
		l.report.Note = say.Note
	}
	if say.Errno != 0 {
		l.locks = &NoLocksError{Errno: syscall.Errno(say.Errno)}
	}
}
