package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SupervisorArg is the hidden first argument with which a binary becomes the
// supervisor. Its main calls SupervisorMain before anything else then.
const SupervisorArg = "supervise"

// SupervisorSocket is the name of the supervisor's socket in the runtime directory.
const SupervisorSocket = socketName

func init() { //nolint:gochecknoinits // the only moment at which the main goroutine is surely on the main thread
	// The supervisor's main goroutine stays on the main thread, to which the
	// kernel gives orphans (see orphans). Only an init function can arrange that.
	if IsSupervisor(os.Args) {
		runtime.LockOSThread()
	}
}

// IsSupervisor says whether the arguments ask for the supervisor.
func IsSupervisor(args []string) bool { return len(args) > 1 && args[1] == SupervisorArg }

// supervisorFlags is the command line between a starter and its supervisor.
type supervisorFlags struct {
	runtimeDir string
	logFile    string
	idle       time.Duration
	daemon     bool
	noCgroups  bool
}

func (f *supervisorFlags) args() []string {
	args := []string{SupervisorArg, "-runtime-dir", f.runtimeDir, "-log", f.logFile, "-idle", f.idle.String()}
	if f.daemon {
		args = append(args, "-daemon")
	}
	if f.noCgroups {
		args = append(args, "-no-cgroups")
	}
	return args
}

func parseFlags(args []string) (supervisorFlags, error) {
	var f supervisorFlags
	fs := flag.NewFlagSet(SupervisorArg, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&f.runtimeDir, "runtime-dir", "", "")
	fs.StringVar(&f.logFile, "log", "", "")
	fs.DurationVar(&f.idle, "idle", 0, "")
	fs.BoolVar(&f.daemon, "daemon", false, "")
	fs.BoolVar(&f.noCgroups, "no-cgroups", false, "")
	if err := fs.Parse(args); err != nil {
		return f, fmt.Errorf("supervisor arguments: %w", err)
	}
	if f.runtimeDir == "" {
		return f, errors.New("supervisor arguments: -runtime-dir is missing")
	}
	return f, nil
}

// SupervisorMain is main for a binary whose first argument is SupervisorArg;
// args are those behind it. It returns the exit code.
//
// The first process only starts a second one in a session of its own and waits
// until that one serves. The second is nobody's child then: its starter need
// not wait for it, and may be killed.
func SupervisorMain(args []string) int {
	f, err := parseFlags(args)
	switch {
	case err != nil:
	case f.daemon:
		err = f.serve()
	default:
		err = f.detach()
	}
	if errors.Is(err, ErrSupervisorRuns) {
		return 0 // somebody was faster, which is as good
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// readyFD is where the second process tells the first that it serves.
const readyFD = 3

// detach starts the second process and waits until it serves.
func (f *supervisorFlags) detach() error {
	f.daemon = true
	if err := keepNoFiles(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read from
	log, err := os.OpenFile(f.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", f.args()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w} // becomes readyFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if err := errors.Join(err, w.Close(), log.Close()); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	said, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	if string(said) != readyWord {
		return fmt.Errorf("the process supervisor did not start; its log %s says why", f.logFile)
	}
	return nil
}

const readyWord = "ready\n"

// keepNoFiles marks all files beyond the standard ones to be closed by exec(2).
// Our starter may have inherited some, such as the lock of a cron job, and a
// supervisor would hold them, and hand them to tasks, for days.
func keepNoFiles() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// collectAt is how much the heap may grow, in percent, before garbage is collected.
// What a supervisor keeps is small (a few megabytes): at Go's 100 an eighth of its CPU
// time, which is taken from tasks, went into collecting.
const collectAt = 400

// serve is the second process.
func (f *supervisorFlags) serve() error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	log := slog.New(slog.NewTextHandler(openSupervisorLog(f.logFile), nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// Caught and not ignored: an ignored signal would stay ignored in tasks.
	deaf := make(chan os.Signal, 1)
	signal.Notify(deaf, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	say := func() {
		_, _ = io.WriteString(ready, readyWord) // the starter may be gone
		_ = ready.Close()
	}
	err := RunSupervisor(ctx, SupervisorOptions{RuntimeDir: f.runtimeDir, Logger: log, Idle: f.idle, NoCgroups: f.noCgroups, Ready: say})
	switch {
	case errors.Is(err, ErrSupervisorRuns):
		say()
	case err != nil:
		log.Error("supervisor", "error", err)
	}
	return err
}

// beginPatience bounds the start of a supervisor: it reads a few files.
const beginPatience = 15 * time.Second

// startSupervisor starts the supervisor of a runtime directory, unless it runs.
// When it returns nil, one serves or is about to.
func startSupervisor(ctx context.Context, exe string, f supervisorFlags) error {
	ctx, cancel := context.WithTimeout(ctx, beginPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, f.args()...)
	cmd.WaitDelay = time.Second // should somebody else hold its output
	cmd.Env = withoutMarker(os.Environ())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("start supervisor: %w: %s", err, out)
	}
	return nil
}

// withoutMarker keeps a supervisor that a task starts from being taken for a
// part of the task.
func withoutMarker(env []string) []string {
	out := make([]string, 0, len(env))
	for _, kv := range env {
		if len(kv) <= len(markerVar) || kv[:len(markerVar)+1] != markerVar+"=" {
			out = append(out, kv)
		}
	}
	return out
}

// defaultLog is where a supervisor logs.
func defaultLog(runtimeDir string) string { return filepath.Join(runtimeDir, "supervisor.log") }
