package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// skew is how far the clocks of two machines may differ before somebody wonders.
const skew = 5 * time.Second

// checkWorkspace writes where the queue and the log are to be, and compares the
// file system's clock with ours on the way.
func checkWorkspace(_ context.Context, x *examination, cfg config.Config) []Finding {
	info, err := os.Stat(cfg.Workspace)
	if err != nil || !info.IsDir() {
		return bad(Problem, fmt.Sprintf("%s is not a folder", cfg.Workspace), "make it, or name another with --workspace")
	}
	var out []Finding
	for _, dir := range []string{existing(cfg.QueueDir), existing(cfg.LogDir)} {
		if len(out) == 0 { // they are mostly on the same
			out = writable(dir, x.Now())
		}
	}
	out = append(out, whose(cfg.QueueDir, x.UID)...)
	if len(out) > 0 {
		return out
	}
	return good("%s can be written", cfg.Workspace)
}

// existing returns the folder, or the nearest one above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// trialFile makes a file that is gone when its reader is done with it.
const trialFile = ".dspy-agent-doctor-*"

// writable says what is wrong with writing in a folder; nil if nothing is.
func writable(dir string, now time.Time) []Finding {
	f, err := os.CreateTemp(dir, trialFile)
	switch {
	case errors.Is(err, syscall.EROFS):
		return bad(Problem, dir+" is on a file system that is mounted read-only", "set ENV_QUEUE_DIR to a folder that can be written, or have it mounted for writing")
	case errors.Is(err, syscall.ENOSPC):
		return bad(Problem, "there is no room for one more file in "+dir, "remove files (df, df -i)")
	case errors.Is(err, syscall.EDQUOT):
		return bad(Problem, "the quota leaves no room for one more file in "+dir, "remove files, or ask for more (quota -s)")
	case err != nil:
		return bad(Problem, fmt.Sprintf("cannot write in %s: %s", dir, cause(err)), "choose a folder of your own with --workspace, or make this one writable")
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return bad(Problem, fmt.Sprintf("cannot remove a file in %s: %s", dir, cause(err)), "")
	}
	if info, err := f.Stat(); err == nil {
		if d := info.ModTime().Sub(now); d.Abs() > skew {
			return bad(Warning, fmt.Sprintf("the clock of the file server behind %s differs from this machine's by %s", dir, span(d)), "have both set by NTP")
		}
	}
	return nil
}

// whose says whether the queue's folder is another user's, or open to others.
func whose(dir string, uid int) []Finding {
	info, err := os.Stat(dir)
	if err != nil {
		return nil // it is made by start
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
		return bad(Warning, fmt.Sprintf("%s belongs to %s, and you are %s", dir, userText(int(st.Uid)), userText(uid)), "act as its owner (sudo -u), or choose a workspace of your own")
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return bad(Warning, fmt.Sprintf("others can write the queue in %s (mode %04o), and with it run programs as you", dir, mode), "chmod go-w "+dir)
	}
	return nil
}
