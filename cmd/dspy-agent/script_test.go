package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run the real programs: dspy-agent, which starts the real daemon
// from beside itself, which starts the real supervisor, and the real env-manager. Nothing is faked, and
// nothing waits by sleeping.

// bin is where the programs are built, run the runtime directory of all scripts.
var bin, run string

func TestMain(m *testing.M) {
	if at := os.Getenv(serveAtEnv); at != "" {
		if err := serveFolder(os.Getenv(serveEnv), at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code, err := scripts(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func scripts(m *testing.M) (code int, err error) {
	// The name is short, since the path of a socket is limited.
	dir, err := os.MkdirTemp("/tmp", "dspy-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin, run = filepath.Join(dir, "bin"), filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, killSupervisor()) }()
	out, err := exec.Command("go", "build", "-o", bin+"/", ".", "../orchestrator", "../env-manager").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// killSupervisor ends what the scripts left running: the supervisor waits a
// while for more work. It is ours if it was started with our runtime directory.
func killSupervisor() error {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := os.ReadFile(e)
		if err != nil || !strings.Contains(string(data), run+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("XDG_RUNTIME_DIR", run)
			env.Setenv("RUN", run)
			env.Defer(func() {
				if _, err := os.Stat(filepath.Join(env.WorkDir, "logs", "env-manager.log")); err == nil { // it is the only one that starts one
					cmd := exec.Command(filepath.Join(bin, "dspy-agent"), "services", "quit", "--workspace", env.WorkDir)
					cmd.Env = env.Vars
					_ = cmd.Run() // it has done so itself, unless it failed
				}
				queues, _ := filepath.Glob(filepath.Join(env.WorkDir, "*", "logs", "env_queue")) // it is a good pattern
				for _, q := range append(queues, filepath.Join(env.WorkDir, "logs", "env_queue")) {
					cmd := exec.Command(filepath.Join(bin, "dspy-agent"), "stop", "--workspace", filepath.Dir(filepath.Dir(q)))
					cmd.Env = env.Vars
					_ = cmd.Run() // most scripts have stopped it themselves
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits CODE PROGRAM [ARGUMENT...] runs a program and compares its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}
