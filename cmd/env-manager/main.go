// Command env-manager is the daemon that keeps the supporting services alive, as
// containers. It is started by "dspy-agent start", by a systemd user unit, or by hand.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("env-manager", flag.ContinueOnError)
	flags.SetOutput(stderr)
	workspace := flags.String("workspace", "", "the folder that relative paths are resolved against")
	configFile := flags.String("config", "", "the configuration file")
	wanted := flags.String("services", "", "services to start, with commas; none = none (default: those that nobody has ended)")
	readyFD := flags.Int("ready-fd", 0, "file descriptor that gets one JSON line once calls are accepted, or the reason why not")
	foreground := flags.Bool("foreground", false, "write the log to standard error, too")
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "env-manager: it takes no arguments, but was given %q; services are asked for with: dspy-agent services\n", flags.Arg(0))
		return 2
	}
	if *showVersion {
		fmt.Fprintln(stdout, "env-manager", version.String(), version.Commit)
		return 0
	}
	ready := announcer{fd: *readyFD}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o := app.EnvManagerOptions{Environ: os.Environ(), Said: stdout, Services: namesOf(*wanted), Ready: ready.accepting}
	if *foreground {
		o.LogEcho = stderr
	}
	err := serve(ctx, config.Given{WorkspaceFlag: *workspace, ConfigFlag: *configFile, Lookup: os.Getenv}, o)
	if err != nil && ctx.Err() == nil {
		ready.failed(err)
		fmt.Fprintln(stderr, "env-manager:", err)
		return 1
	}
	return 0
}

// namesOf takes a list apart; nil = none was given, which is not the empty one.
func namesOf(list string) []string {
	switch list {
	case "":
		return nil
	case "none":
		return []string{}
	}
	return strings.Split(list, ",")
}

func serve(ctx context.Context, given config.Given, o app.EnvManagerOptions) (err error) {
	if given.Cwd, err = os.Getwd(); err != nil {
		return fmt.Errorf("find the current folder: %w", err)
	}
	if o.Config, err = config.Load(given); err != nil {
		return err
	}
	return app.RunEnvManager(ctx, o)
}

// announcer tells the process that started us how the start went, once.
type announcer struct{ fd int }

// announcement is the line on the descriptor, as of the orchestrator.
type announcement struct {
	OK      bool   `json:"ok"`
	PID     int    `json:"pid,omitempty"`
	Socket  string `json:"socket,omitempty"`
	Version string `json:"version,omitempty"`
	Code    string `json:"code,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (a *announcer) accepting(socket string) {
	a.say(announcement{OK: true, PID: os.Getpid(), Socket: socket, Version: version.String()})
}

func (a *announcer) failed(err error) {
	a.say(announcement{Code: task.CodeOf(err).String(), Error: err.Error()})
}

func (a *announcer) say(line announcement) {
	if a.fd <= 0 {
		return
	}
	f := os.NewFile(uintptr(a.fd), "ready")
	a.fd = 0
	if f == nil {
		return
	}
	defer f.Close()
	// If nobody listens any more, nobody needs to know.
	_ = json.NewEncoder(f).Encode(line)
}
