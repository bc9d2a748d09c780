package main_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hangingFolder is a scene in which its first argument is on a file system of FUSE that
// never answers a word: its server is a file descriptor that nobody reads.
const hangingFolder = `exec 9<>/dev/fuse
mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hang "$1"
shift
"$@" 9>&- || exit $?`

// mayMount says whether that can be made here.
func mayMount(t *testing.T) bool {
	t.Helper()
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil || os.Geteuid() != 0 {
		t.Logf("no file system can be mounted here: %v", err)
		return false
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestHangingFileServer: what looks into a folder on a file server that hangs says within
// seconds what hangs, instead of waiting for good, and from cron beside the one of a
// minute ago.
func TestHangingFileServer(t *testing.T) {
	t.Parallel()
	if !mayMount(t) {
		return // TestFileSystemThatHangs of queue stands for it
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(backup, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"drain", "start", "ps", "queue repair", "queue compact", "queue restore " + backup} {
		t.Run("queue of "+strings.ReplaceAll(args, backup, ""), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			saysWhatHangs(t, dir, t.TempDir(), []string{"ENV_QUEUE_DIR=" + dir}, args, "the queue in "+dir, "ENV_QUEUE_DIR")
		})
	}
	t.Run("workspace", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		saysWhatHangs(t, dir, dir, nil, "ps", "the workspace, "+dir, "looking at the folder")
	})
	t.Run("queue below the current folder", func(t *testing.T) {
		t.Parallel()
		work := t.TempDir()
		dir := filepath.Join(work, "logs", "env_queue")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		saysWhatHangs(t, dir, "", nil, "ps", "the folder of a queue, "+dir, "looking at the folder")
	})
	t.Run("log of the daemon", func(t *testing.T) {
		t.Parallel()
		work := t.TempDir()
		dir := filepath.Join(work, "logs")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		saysWhatHangs(t, dir, work, []string{"ENV_QUEUE_DIR=" + t.TempDir()}, "start", "the folder of the log, "+dir, "making")
	})
}

// saysWhatHangs runs a command where a folder hangs, in a workspace or, if it names none,
// two folders above.
func saysWhatHangs(t *testing.T, hangs, workspace string, environ []string, args string, wants ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	named := []string{"--workspace", workspace}
	if workspace == "" {
		named = nil
	}
	cmd := exec.CommandContext(ctx, "unshare", slices.Concat([]string{"-m", "--propagation", "private", "bash", "-e", "-c", hangingFolder, "bash", hangs,
		filepath.Join(bin, "dspy-agent")}, named, strings.Fields(args))...)
	if workspace == "" {
		cmd.Dir = filepath.Dir(filepath.Dir(hangs))
	}
	cmd.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "XDG_RUNTIME_DIR=" + run}, environ...)
	cmd.WaitDelay = time.Second // for what it left behind, which must not hold our pipe
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() <= 0 {
		t.Errorf("%v, want an exit code", err)
	}
	for _, part := range append(wants, "FUSE (hang", "has not returned for") {
		if !strings.Contains(said.String(), part) {
			t.Errorf("it lacks %q:\n%s", part, &said)
		}
	}
}
