package main_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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

// TestQueueOnAHangingFileServer: what opens the queue by itself, from cron above all,
// says within seconds what hangs, instead of waiting beside the one of a minute ago.
func TestQueueOnAHangingFileServer(t *testing.T) {
	t.Parallel()
	if !mayMount(t) {
		return // TestFileSystemThatHangs of queue stands for it
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(backup, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"drain", "queue repair", "queue compact", "queue restore " + backup} {
		t.Run(strings.Fields(args)[len(strings.Fields(args))-1], func(t *testing.T) {
			t.Parallel()
			dir, work := t.TempDir(), t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, "unshare", append([]string{"-m", "--propagation", "private", "bash", "-e", "-c", hangingFolder, "bash", dir,
				filepath.Join(bin, "dspy-agent"), "--workspace", work}, strings.Fields(args)...)...)
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "XDG_RUNTIME_DIR=" + run, "ENV_QUEUE_DIR=" + dir}
			cmd.WaitDelay = time.Second // for what it left behind, which must not hold our pipe
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() <= 0 {
				t.Errorf("%v, want an exit code", err)
			}
			for _, part := range []string{dir, "FUSE (hang", "has not returned for", "ENV_QUEUE_DIR"} {
				if !strings.Contains(said.String(), part) {
					t.Errorf("it lacks %q:\n%s", part, &said)
				}
			}
		})
	}
}
