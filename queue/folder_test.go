package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/queue"
)

// TestStrangeSmallFiles: what is no file of ours under the name of one is an error, and
// neither waited for nor read without an end.
func TestStrangeSmallFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"owner.json", "CURRENT"} {
		for what, put := range map[string]func(path string) error{
			"a pipe":       func(path string) error { return unix.Mkfifo(path, 0o600) },
			"a link":       func(path string) error { return os.Symlink("/dev/zero", path) },
			"a large file": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat(" ", 1<<20)), 0o600) },
		} {
			t.Run(name+" is "+what, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
				path := filepath.Join(dir, name)
				if err := os.Remove(path); err != nil && name == "CURRENT" {
					t.Fatal(err)
				}
				if err := put(path); err != nil {
					t.Fatal(err)
				}
				var opened, read error
				soon(t, func() {
					_, opened = queue.Open(context.Background(), queue.Options{Dir: dir})
					_, read = queue.WhoOwns(dir)
				})
				if opened == nil {
					t.Error("the queue was opened")
				}
				if name == "owner.json" && !errors.Is(read, queue.ErrOwnerDamaged) {
					t.Errorf("who owns it: %v", read)
				}
			})
		}
	}
}
