package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Env is everything that a command sees of the world.
type Env struct {
	Args    []string // with the name of the program
	Environ []string // "K=V"
	Cwd     string   // absolute; "" = ask Getwd
	// Getwd returns the current folder, as its user calls it. It may hang where a file
	// server does, so doctor does not call it, and others ask first whether that answers.
	Getwd func() (string, error)

	Stdin  io.Reader
	Stdout io.Writer // an *os.File of a terminal gets colours and columns
	Stderr io.Writer

	// Executable is the path of the running program; the daemon's binary is
	// looked for beside it.
	Executable string
	// SupervisorSocket is the name of the process supervisor's socket in the runtime
	// directory; "" = this program has no supervisor.
	SupervisorSocket string
	// Exec replaces the process, for start --foreground.
	Exec func(path string, argv, environ []string) error
}

// findFolder finds out where the command runs, unless that is known.
func (s *session) findFolder(ctx context.Context) error {
	if s.env.Cwd != "" {
		return nil
	}
	if err := s.answers(ctx, "the current folder", kernelFolder()); err != nil {
		return err
	}
	cwd, err := s.env.Getwd()
	if err != nil {
		return fmt.Errorf("the current folder is gone: %w", err)
	}
	s.env.Cwd = cwd
	return nil
}

// getenv returns the last value of a variable, as the C library would see the
// only one.
func (e Env) getenv(name string) string {
	v, _ := e.lookupEnv(name)
	return v
}

func (e Env) lookupEnv(name string) (string, bool) {
	for _, kv := range slices.Backward(e.Environ) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
