package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestDiskThatRefuses: a disk that is full, read-only or closed ends every command alike,
// whichever part met it and whatever code that gave it.
func TestDiskThatRefuses(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, fs.ErrPermission} {
		raw := fmt.Errorf("write the log: %w", &os.PathError{Op: "open", Path: "/q/x", Err: errno})
		for _, err := range []error{raw, task.Errorf(task.CodeUnavailable, "nothing was stored: %w", raw), task.Errorf(task.CodeInternal, "it failed: %w", raw)} {
			if got := exitCode(t.Context(), err); got != exitRefused {
				t.Errorf("%v ends with %d", err, got)
			}
		}
		if got := exitCode(t.Context(), &exitError{code: 7, msg: raw.Error()}); got != 7 {
			t.Errorf("an end that was chosen is %d", got)
		}
	}
	for err, want := range map[error]int{
		syscall.EIO:                  exitFailed,
		errors.New("whatever"):       exitFailed,
		usagef("%s", syscall.ENOSPC): exitUsage,
	} {
		if got := exitCode(t.Context(), err); got != want {
			t.Errorf("%v ends with %d, want %d", err, got, want)
		}
	}
}

// TestSlipsAreRefused: a workspace that is not there, a class that is empty and a backup to
// the standard output are slips, and nothing is done.
func TestSlipsAreRefused(t *testing.T) {
	env, _ := unattendedWorkspace(t)
	expect(t, env, exitRefused, "", "is not a folder; name another one with --workspace, or make it first: mkdir -p ", "drain", "--workspace", "nowhere")
	for _, args := range []string{"drain", "ps", "cancel", "retry", "submit"} {
		expect(t, env, exitUsage, "", "--class is empty; is a variable of the shell not set?", args, "--class", "")
	}
	expect(t, env, exitUsage, "", "--class is empty", "submit", "--class", "", "--", "true")
	for _, args := range []string{"pause", "resume"} {
		expect(t, env, exitUsage, "", args+" was given an empty class", args, "")
	}
	expect(t, env, exitUsage, "", "it goes into a file", "queue", "backup", "-")
	if made, err := filepath.Glob(filepath.Join(env.Cwd, "*")); err != nil || len(made) != 1 {
		t.Errorf("the folder has %v (%v)", made, err)
	}
}

// TestUnusableDropFolder: from cron nobody would hear that no file is taken.
func TestUnusableDropFolder(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	expect(t, env, exitDone, "cancelled", "", "cancel", "a") // so that there is nothing else to do
	expect(t, env, exitDone, "", "", "drain")
	write(t, filepath.Join(cfg.QueueDir, "rejected"), "no folder")
	for _, args := range []string{"drain", "drain --quiet"} {
		expect(t, env, exitFailed, "", "no file of the drop folder is taken, and no outcome written: ", strings.Fields(args)...)
	}
}

// TestNamesThatActOnTheTerminal: no message has a control character of a path, and what
// people are told to type names the same folder.
func TestNamesThatActOnTheTerminal(t *testing.T) {
	env := testEnv(t)
	env.Cwd = filepath.Join(env.Cwd, "a'\x1b[31m\nb\u202e\xff")
	if err := os.Mkdir(env.Cwd, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"ps", "drain", "stop", "submit --workspace . --id x -- true", "ps", "status", "why x", "queue verify", "queue backup ../x.db",
		"queue compact", "queue repair", "drain --workspace ./gone", "start", "cancel x", "drain", "stop", "ps --watch", "submit --wait -- true",
	} {
		_, out, errs := dspyAgent(t, env, strings.Fields(args)...)
		for _, bad := range []string{"\x1b", "\u202e", "a'\n"} {
			if strings.Contains(out+errs, bad) {
				t.Errorf("%s prints %q: %q %q", args, bad, out, errs)
			}
		}
	}
}

// TestPasteable: bash makes the same words of it.
func TestPasteable(t *testing.T) {
	words := []string{"plain", "a b", "it's", "a\x1b[31m'\n1\\x", "\xff9", "\u202e", "ä", ""}
	line := pasteable(words)
	if strings.ContainsFunc(line, actsOnTerminal) {
		t.Errorf("%q acts on the terminal", line)
	}
	out, err := exec.CommandContext(t.Context(), "bash", "-c", `printf '%s\0' `+line).Output()
	if got, want := string(out), strings.Join(words, "\x00")+"\x00"; err != nil || got != want {
		t.Errorf("bash makes %q of %s (%v)", got, line, err)
	}
	if got := (config.Config{Workspace: "/a\x1bb"}).String(); got != `workspace "/a\x1bb"` {
		t.Errorf("the workspace is called %s", got)
	}
}
