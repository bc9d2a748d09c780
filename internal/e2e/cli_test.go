package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The exit codes that docs/cli.md promises.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitNoDaemon = 4
	exitRefused  = 5

	exitTimeout   = 124
	exitCancelled = 125
)

// cliPatience is how long a command may take that should answer at once.
const cliPatience = time.Minute

// answered is what a command printed and ended with.
type answered struct {
	what     string // the command line, or its beginning
	out, err string
	code     int
}

// call is a command line that is about to be run.
type call struct {
	args  []string
	env   []string
	stdin string
	uid   int // 0 = as the test
	dir   string
}

// dspy runs a command of the command line in the workspace.
func (w *world) dspy(args ...string) answered {
	w.Helper()
	return w.run(call{args: args})
}

// dspyOK runs a command that has to end with 0, and returns what it printed.
func (w *world) dspyOK(args ...string) string {
	w.Helper()
	a := w.dspy(args...)
	if a.code != exitDone {
		w.Fatalf("dspy-agent %s ended with %d:\n%s%s", strings.Join(args, " "), a.code, a.out, a.err)
	}
	return a.out
}

// run runs a command line.
func (w *world) run(c call) answered {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cliPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "dspy-agent"), c.args...)
	cmd.Env = append(append([]string{}, w.env...), c.env...)
	if cmd.Dir = c.dir; c.dir == "" {
		cmd.Dir = w.workspace
	}
	cmd.Stdin = strings.NewReader(c.stdin)
	if c.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		w.Fatalf("dspy-agent %.200q does not end; it printed %.2000s%.2000s", c.args, out.String(), errs.String())
	case err != nil && !errors.As(err, &exit):
		w.Fatalf("dspy-agent %.200q: %v", c.args, err)
	}
	return answered{what: fmt.Sprintf("%.120q", c.args), out: out.String(), err: errs.String(), code: cmd.ProcessState.ExitCode()}
}

// wants fails the test unless a command ended with the code, and its complaint
// has the words in it.
func (w *world) wants(a answered, code int, words ...string) {
	w.Helper()
	if a.code != code {
		w.Errorf("%s: exit code %d, want %d; it said:\n%.2000s%.2000s", a.what, a.code, code, a.out, a.err)
	}
	for _, word := range words {
		if !strings.Contains(a.err, word) {
			w.Errorf("%s: the complaint lacks %q:\n%.2000s", a.what, word, a.err)
		}
	}
	if code != exitDone && code != exitUsage && strings.Count(strings.TrimSpace(a.err), "\n") > 3 {
		w.Errorf("%s: the complaint is longer than a few lines:\n%.2000s", a.what, a.err)
	}
}

// sh runs a line that a message told to type.
func sh(tb testing.TB, w *world, line string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cliPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ec", line)
	cmd.Env = append(append([]string{}, w.env...), "PATH="+w.bin+":/usr/bin:/bin")
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", line, err, out)
	}
}
