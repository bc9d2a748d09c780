// Command orchestrator is the daemon that owns a queue: it accepts tasks, places
// them, and follows them to their ends. It is started by "dspy-agent start" or by
// a systemd user unit.
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
	"syscall"

	"golang.org/x/term"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

func main() {
	// The process backend starts the supervisor by running this same program.
	if len(os.Args) > 1 && os.Args[1] == process.SupervisorArg {
		os.Exit(process.SupervisorMain(os.Args[2:]))
	}
	// So does the queue with the child that tries a file system which may hang.
	if len(os.Args) > 1 && os.Args[1] == tryopen.Arg {
		os.Exit(tryopen.Main(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:], os.Stderr))
}

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("orchestrator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	given := settingFlags(flags)
	readyFD := flags.Int("ready-fd", 0, "file descriptor that gets one JSON line once calls are accepted, or the reason why not")
	foreground := flags.Bool("foreground", false, "write the log to standard error, too")
	takeOver := flags.Bool("take-over", false, "go on from a copy of the queue where its owner, on another host, gives no sign of life")
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0: // "orchestrator stop" must not start one
		fmt.Fprintf(stderr, "orchestrator: it takes no arguments, but was given %q; it is usually started by: dspy-agent start\n", flags.Arg(0))
		return 2
	}
	if *showVersion {
		fmt.Println("orchestrator", version.String(), version.Commit)
		return 0
	}
	ready := &announcer{fd: *readyFD}
	if f, ok := stderr.(*os.File); ok && !*foreground && *readyFD == 0 && term.IsTerminal(int(f.Fd())) {
		ready.person = stderr // who typed this would see nothing at all
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, given(), *foreground, *takeOver, ready, stderr); err != nil {
		ready.failed(err)
		fmt.Fprintln(stderr, "orchestrator:", err)
		return 1
	}
	return 0
}

// settingFlags defines a flag for every setting that has one, and returns what
// tells them after they were parsed.
func settingFlags(flags *flag.FlagSet) (given func() config.Given) {
	values := map[string]*string{}
	for _, s := range config.Settings() {
		if s.Flag != "" {
			values[s.Flag] = flags.String(s.Flag, "", s.Meaning)
		}
	}
	return func() config.Given {
		g := config.Given{Flags: map[string]string{}, Lookup: os.Getenv}
		for name, v := range values {
			switch name {
			case "workspace":
				g.WorkspaceFlag = *v
			case "config":
				g.ConfigFlag = *v
			default:
				g.Flags[name] = *v
			}
		}
		return g
	}
}

func serve(ctx context.Context, given config.Given, foreground, takeOver bool, ready *announcer, stderr io.Writer) error {
	cwd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the current folder: %w", err)
	}
	given.Cwd = cwd
	conf, err := config.Load(given)
	if err != nil {
		return err
	}
	ready.workspace = conf.Workspace
	opts := app.Options{Config: conf, Environ: os.Environ(), TakeOver: takeOver, Ready: ready.accepting}
	if foreground {
		opts.LogEcho = stderr
	}
	return app.Run(ctx, opts)
}

// announcer tells the process that started us how the start went, once; and a
// person, if one did.
type announcer struct {
	fd        int
	done      bool
	person    io.Writer // nil: nobody is there
	workspace string
}

// announcement is the line on the descriptor.
type announcement struct {
	OK      bool   `json:"ok"`
	PID     int    `json:"pid,omitempty"`
	Socket  string `json:"socket,omitempty"`
	Version string `json:"version,omitempty"`
	Code    string `json:"code,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (a *announcer) accepting(socket string) {
	if a.person != nil {
		fmt.Fprintf(a.person, "serving %s; Ctrl-C ends it and leaves tasks running; usually started by: dspy-agent start\n", a.workspace)
	}
	a.say(announcement{OK: true, PID: os.Getpid(), Socket: socket, Version: version.String()})
}

func (a *announcer) failed(err error) {
	a.say(announcement{Code: task.CodeOf(err).String(), Error: err.Error()})
}

func (a *announcer) say(line announcement) {
	if a.fd <= 0 || a.done {
		return
	}
	a.done = true
	f := os.NewFile(uintptr(a.fd), "ready")
	if f == nil {
		return
	}
	defer f.Close()
	// If nobody listens any more, nobody needs to know.
	_ = json.NewEncoder(f).Encode(line)
}
