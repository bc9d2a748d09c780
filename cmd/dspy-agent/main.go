// Command dspy-agent submits tasks to the queue of a workspace, follows them,
// and starts and stops the daemon that runs them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/cli"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
)

func main() {
	// The supervisor of running tasks is started from whichever of our programs
	// is at hand. It is no command for people, and must not meet their flags.
	if len(os.Args) > 1 && os.Args[1] == process.SupervisorArg {
		os.Exit(process.SupervisorMain(os.Args[2:]))
	}
	// So does the queue with the child that tries a file system which may hang.
	if len(os.Args) > 1 && os.Args[1] == tryopen.Arg {
		os.Exit(tryopen.Main(os.Args[2:]))
	}
	os.Exit(run())
}

// run hands the command line what it may see of the world.
func run() int {
	executable, err := os.Executable()
	if err != nil {
		executable = "" // then only PATH says where the daemon is
	}
	ctx, stop := interruptible()
	defer stop()
	return cli.Main(ctx, cli.Env{
		Args: os.Args, Environ: os.Environ(), Getwd: os.Getwd,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Executable: executable, SupervisorSocket: process.SupervisorSocket, Exec: syscall.Exec,
	})
}

// interruptible returns a context that the first Ctrl-C, SIGTERM or hang-up
// cancels, with the signal as its cause. The second one ends the program as if
// nobody had listened.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case sig := <-caught:
			signal.Stop(caught)
			if s, ok := sig.(syscall.Signal); ok {
				cancel(cli.InterruptedError{Signal: s})
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(caught)
		cancel(nil)
		<-done
	}
}
