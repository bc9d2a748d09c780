package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// The exit codes of every command. wait and submit --wait end with the task's
// own code instead, once the task has one: see taskExit.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitNoDaemon = 4
	exitRefused  = 5

	exitWaitOver    = 75  // EX_TEMPFAIL of sysexits.h: not yet, try again
	exitTimeout     = 124 // as timeout(1) does
	exitCancelled   = 125
	exitInterrupted = 130 // 128 + SIGINT, as a shell has it
)

// exitTable is the documentation of the codes, in docs/cli.md and in the help.
var exitTable = []struct {
	code int
	text string
}{
	{exitDone, "done"},
	{exitFailed, "failed: the command could not do what was asked, or a task that has no exit code of its own failed"},
	{exitUsage, "usage: the command line or the configuration is wrong; nothing was done"},
	{exitNotFound, "not found: there is no task with that id, no such service, or no queue"},
	{exitNoDaemon, "no daemon: none runs and the command needs one, or it stopped answering; or somebody else keeps the queue; or, for slurm, there is no Slurm that answers"},
	{exitRefused, "refused: the request was understood and not accepted, or the disk is full, mounted read-only or closed to you; the message says why"},
	{exitWaitOver, "the time of wait --timeout was over before the tasks had ended; they go on"},
	{exitInterrupted, "interrupted by Ctrl-C (143 for SIGTERM); tasks and services are left alone. logs --follow, services logs --follow and ps --watch end with 0 then, and so does drain after SIGTERM"},
}

// exitHelp is the table as the help shows it.
func exitHelp() string {
	var b strings.Builder
	for _, e := range exitTable {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.text)
	}
	return strings.TrimRight(b.String(), "\n")
}

// taskExitTable is the documentation of taskExit.
var taskExitTable = []struct{ code, text string }{
	{"0", "the task succeeded"},
	{"n", "its program ended with exit code n"},
	{"128+n", "its program was killed by signal n (137: SIGKILL, for example for lack of memory)"},
	{"124", "it ran longer than its time limit and was stopped"},
	{"125", "it was cancelled"},
	{"1", "it has no exit code: it is lost, could not be started, or a task that it waits for ended the wrong way"},
}

// exitOfCode sorts the codes of errors into exit codes.
var exitOfCode = map[task.Code]int{
	task.CodeInternal:    exitFailed,
	task.CodeInvalid:     exitRefused,
	task.CodeNotFound:    exitNotFound,
	task.CodeConflict:    exitRefused,
	task.CodeExhausted:   exitRefused,
	task.CodeUnavailable: exitNoDaemon,
	task.CodeUnsupported: exitRefused,
}

// usageError is a command line that is wrong.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exitError ends the command with a code and, unless it is empty, a message.
type exitError struct {
	code int
	msg  string
}

func (e *exitError) Error() string { return e.msg }

// InterruptedError is the cause with which main cancels the context of a command.
type InterruptedError struct{ Signal syscall.Signal }

// Error names the signal.
func (i InterruptedError) Error() string { return i.Signal.String() }

// exitCode returns the code with which the command ends after err.
func exitCode(ctx context.Context, err error) int {
	var (
		usage *usageError
		exit  *exitError

		invalid *config.InvalidError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case interrupted(ctx):
		return interruptCode(ctx)
	case errors.As(err, &usage), errors.As(err, &invalid):
		return exitUsage
	case brokenPipe(err):
		return exitDone // whoever read our output has seen enough
	}
	if diskRefuses(err) {
		return exitRefused
	}
	return exitOfCode[task.CodeOf(err)]
}

// diskRefuses says whether a file system did not let us do what was asked: it is full or
// mounted read-only, or the folder is closed to this user. Whatever part has met it, and
// whatever that makes of it for a daemon's callers, a command ends alike.
func diskRefuses(err error) bool {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, fs.ErrPermission} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// interrupted says whether somebody asked the command to end.
func interrupted(ctx context.Context) bool { return ctx.Err() != nil }

func interruptCode(ctx context.Context) int {
	if i, ok := errors.AsType[InterruptedError](context.Cause(ctx)); ok {
		return 128 + int(i.Signal)
	}
	return exitInterrupted
}

// brokenPipe says whether our output has no reader any more ("| head").
func brokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed)
}

// taskExit returns the exit code that stands for the end of a task.
func taskExit(t *pb.TaskInfo) int {
	o := t.GetOutcome()
	switch {
	case t.GetState() == task.Succeeded.String():
		return exitDone
	case t.GetState() == task.Cancelled.String():
		return exitCancelled
	case o.GetFailureClass() == task.Timeout.String():
		return exitTimeout
	case o.GetSignal() > 0:
		return 128 + int(o.GetSignal())
	case o.GetExitCode() > 0:
		return int(o.GetExitCode())
	default:
		return exitFailed
	}
}
