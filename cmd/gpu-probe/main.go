// Command gpu-probe reads NVIDIA's driver for the daemon that started it, and
// writes what it saw as JSON lines on standard output (package gpu, Report):
// first a hello, then a snapshot whenever one is due or asked for, and events as
// they come. It is a process of its own so that a driver that hangs, or was
// replaced under it, costs this process and no other.
//
// It takes commands on standard input, one a line:
//
//	period 5s   a snapshot every 5 seconds from now on; 0s: only when asked
//	once        a snapshot now
//	quit        end
//
// and ends when standard input does, so it never outlives who started it. Beside
// a call of the driver that does not come back it says so once a second; it never
// judges how long is too long.
//
// Exit codes: 0 done; 2 usage; with --once also 3 no driver (no library, or its
// kernel module is not loaded), 4 a driver that does not work. Without --once a
// missing driver is reported in the snapshot, and the probe stays.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/gpu/nvml"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

// The exit codes.
const (
	exitDone     = 0
	exitUsage    = 2
	exitNoDriver = 3
	exitBroken   = 4
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("gpu-probe", flag.ContinueOnError)
	flags.SetOutput(stderr)
	once := flags.Bool("once", false, "take one snapshot and exit")
	asJSON := flags.Bool("json", false, "with --once, print it as JSON; without, that is how it speaks anyway")
	library := flags.String("library", "", "`PATH` of libnvidia-ml.so.1, instead of where systems keep it")
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "gpu-probe: it takes no arguments, but was given %q\n", flags.Arg(0))
		return exitUsage
	}
	switch {
	case *showVersion:
		fmt.Fprintln(stdout, "gpu-probe", version.String(), version.Commit)
		return exitDone
	case *once:
		return look(nvml.Options{Library: *library}, *asJSON, stdout)
	}
	newProbe(nvml.Options{Library: *library}, stdout).serve(stdin)
	return exitDone
}

// look takes one snapshot.
func look(o nvml.Options, asJSON bool, stdout io.Writer) int {
	r := nvml.New(o)
	s := r.Snapshot()
	r.Close()
	if asJSON {
		newLines(stdout).write(gpu.Report{Snapshot: s})
	} else {
		describe(stdout, s)
	}
	switch s.Driver.Code {
	case gpu.Success:
		return exitDone
	case gpu.LibraryNotFound, gpu.DriverNotLoaded:
		return exitNoDriver
	default:
		return exitBroken
	}
}
