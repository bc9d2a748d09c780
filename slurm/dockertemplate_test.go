package slurm

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine takes the place of docker: "run" is its client, which hands SIGTERM on, and the
// program at once; what else is asked of it is in the file "asked".
const engine = `#!/bin/bash
there() { kill -0 "$(cat pid)" 2>/dev/null; }
case $1 in
run)
	trap 'echo heard >>asked; [ -n "$STUBBORN" ] || { sleep 0.3; exit 7; }' TERM
	echo $$ >pid.new && mv pid.new pid
	while ! [ -e done ]; do sleep 0.05; done
	exit 0
	;;
stop)
	echo "$*" >>asked
	for ((i = 0; i < 20 * $3; i++)); do
		there || exit 0
		sleep 0.05
	done
	kill -KILL "$(cat pid)"
	;;
kill)
	echo "$*" >>asked
	[ "$2" = --signal ] || kill -KILL "$(cat pid)"
	;;
esac
`

// TestDockerTemplateLetsItEnd: what ends the job gives the program in the container its
// grace, and a warning reaches it.
func TestDockerTemplateLetsItEnd(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs(filepath.Join(shipped, "docker.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for about, c := range map[string]struct {
		env     string
		signal  syscall.Signal
		group   bool // the whole job gets it, as at a time limit; else the script alone
		code    int
		asked   []string
		without string
	}{
		"at the time limit":             {"TASK_GRACE=600", syscall.SIGTERM, true, 7, []string{"heard"}, "kill"},
		"at the time limit, a stubborn": {"TASK_GRACE=3 STUBBORN=1", syscall.SIGTERM, true, 137, []string{"heard", "stop --time 1 dspy-slurm-5"}, "kill"},
		"a warning":                     {"TASK_GRACE=600", syscall.SIGUSR1, false, 0, []string{"kill --signal USR1 dspy-slurm-5"}, "stop"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put(t, filepath.Join(dir, "docker"), engine)
			cmd := exec.CommandContext(t.Context(), "bash", script, "python")
			cmd.Dir = dir
			cmd.Env = append(strings.Fields(c.env), "PATH="+dir+":/usr/bin:/bin", "IMAGE=i", "DSPY_RESULT_FILE="+dir+"/r", "SLURM_JOB_ID=5", "SLURM_CPUS_PER_TASK=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			until(t, "the program runs", func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil })
			whom := cmd.Process.Pid
			if c.group {
				whom = -whom
			}
			if err := syscall.Kill(whom, c.signal); err != nil {
				t.Fatal(err)
			}
			asked := func() string { b, _ := os.ReadFile(filepath.Join(dir, "asked")); return string(b) }
			for _, words := range c.asked {
				until(t, words, func() bool { return strings.Contains(asked(), words) })
			}
			if !c.group {
				put(t, filepath.Join(dir, "done"), "")
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code || strings.Contains(asked(), c.without) || strings.Count(asked(), "heard") > 1 {
				t.Errorf("it ended with %d; asked was\n%s", code, asked())
			}
		})
	}
}

// until waits for what nobody announces.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C: // polls what a script writes
		case <-late:
			t.Fatalf("after %s still not: %s", patience, what)
		}
	}
}
