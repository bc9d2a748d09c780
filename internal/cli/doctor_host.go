package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkWorkspace writes where the queue and the logs are to be, and compares
// the file system's clock with ours on the way.
func checkWorkspace(_ context.Context, s *session, cfg config.Config) []jsonFinding {
	const check = "workspace"
	dir := existing(cfg.QueueDir)
	f, err := os.CreateTemp(dir, ".dspy-agent-doctor-*")
	if err != nil {
		return finding(check, levelFail, fmt.Sprintf("cannot write in %s: %s", dir, rootCause(err)), "choose a folder of your own with --workspace, or make this one writable")
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return finding(check, levelFail, fmt.Sprintf("cannot remove a file in %s: %s", dir, rootCause(err)), "")
	}
	const skew = 5 * time.Second
	if info, err := f.Stat(); err == nil {
		if d := info.ModTime().Sub(s.now()); d > skew || d < -skew {
			return finding(check, levelWarn, fmt.Sprintf("the file server's clock differs from this machine's by %s", span(d)), "set both by NTP")
		}
	}
	return finding(check, levelOK, cfg.Workspace+" is writable", "")
}

// existing returns the folder, or the nearest one above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// sharedFileSystems are those whose locks depend on a server: they can hang, be
// lost, or be granted twice. The numbers are statfs's.
var sharedFileSystems = map[int64]string{
	0x6969: "NFS", 0x0BD00BD0: "Lustre", 0x47504653: "GPFS", 0x19830326: "BeeGFS", 0x00C36400: "CephFS",
	0x517B: "SMB", 0xFF534D42: "CIFS", 0xFE534D42: "SMB2", 0x5346414F: "AFS", 0x65735546: "FUSE", 0x01021997: "9p",
}

func checkFileSystem(_ context.Context, _ *session, cfg config.Config) []jsonFinding {
	const check = "file system"
	var st unix.Statfs_t
	dir := existing(cfg.QueueDir)
	if err := unix.Statfs(dir, &st); err != nil {
		return finding(check, levelWarn, fmt.Sprintf("cannot tell what %s is on: %s", dir, err), "")
	}
	if name, shared := sharedFileSystems[int64(st.Type)]; shared { //nolint:unconvert // an int32 on some architectures
		return finding(check, levelWarn, fmt.Sprintf("the queue is on %s, whose locks and writes depend on a server", name),
			"run one daemon only, on one host; or set ENV_QUEUE_DIR to a folder on a local disk")
	}
	return finding(check, levelOK, "the queue is on a local file system", "")
}

// Free space below which a queue is in danger, and below which it soon will be.
const (
	spaceFail = 100 << 20
	spaceWarn = 1 << 30
)

func checkSpace(_ context.Context, _ *session, cfg config.Config) []jsonFinding {
	const check = "space"
	var st unix.Statfs_t
	dir := existing(cfg.QueueDir)
	if err := unix.Statfs(dir, &st); err != nil {
		return finding(check, levelWarn, fmt.Sprintf("cannot tell how much room %s has: %s", dir, err), "")
	}
	free := st.Bavail * uint64(st.Bsize)
	text := humanize.IBytes(free) + " free for the queue and the output of tasks"
	switch {
	case free < spaceFail:
		return finding(check, levelFail, text, "make room, or set ENV_QUEUE_DIR to a folder with more")
	case free < spaceWarn:
		return finding(check, levelWarn, text, "make room soon")
	case st.Files > 0 && st.Ffree < 10_000:
		return finding(check, levelWarn, fmt.Sprintf("room for only %s more files", humanize.Comma(int64(st.Ffree))), "remove files; every task has a few")
	}
	return finding(check, levelOK, text, "")
}

// checkClock looks for a clock that was never set.
func checkClock(_ context.Context, s *session, _ config.Config) []jsonFinding {
	now := s.now()
	if earliest := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC); now.Before(earliest) {
		return finding("clock", levelFail, "the clock says "+now.Format(time.RFC3339), "set it; times in the queue come from it")
	}
	return finding("clock", levelOK, now.Format(time.RFC3339), "")
}

// checkOpenFiles looks at the limit that the daemon inherits from this shell.
func checkOpenFiles(context.Context, *session, config.Config) []jsonFinding {
	const check, least = "open files", 1024
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return finding(check, levelWarn, "cannot tell the limit: "+err.Error(), "")
	}
	text := "at most " + humanize.Comma(int64(min(lim.Cur, 1<<62)))
	if lim.Cur < least {
		return finding(check, levelWarn, text, "ulimit -n 4096 before start")
	}
	return finding(check, levelOK, text, "")
}

// checkLogin looks whether the system ends what a user left running at logout.
func checkLogin(_ context.Context, s *session, _ config.Config) []jsonFinding {
	const check = "login"
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return finding(check, levelOK, "no systemd here: what you start goes on after logout", "")
	}
	user := s.env.getenv("USER")
	lingers := false
	if user != "" {
		_, err := os.Stat(filepath.Join("/var/lib/systemd/linger", filepath.Base(user)))
		lingers = err == nil
	}
	switch kills := killsUserProcesses("/etc/systemd/logind.conf", "/etc/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/usr/lib/systemd/logind.conf.d"); {
	case lingers:
		return finding(check, levelOK, "what you start goes on after logout (linger is on)", "")
	case kills && os.Getuid() != 0:
		return finding(check, levelFail, "this system ends everything of yours at logout (KillUserProcesses=yes), tasks included", "loginctl enable-linger")
	default:
		return finding(check, levelOK, "what you start in a shell goes on after logout; for a systemd user unit run: loginctl enable-linger", "")
	}
}

// killsUserProcesses reads logind's settings: a file, and folders of files that
// change it.
func killsUserProcesses(file string, dirs ...string) bool {
	files := []string{file}
	for _, d := range dirs {
		more, err := filepath.Glob(filepath.Join(d, "*.conf"))
		if err == nil {
			files = append(files, more...)
		}
	}
	kills := false
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if k, v, ok := strings.Cut(sc.Text(), "="); ok && strings.TrimSpace(k) == "KillUserProcesses" {
				v = strings.ToLower(strings.TrimSpace(v))
				kills = v == "yes" || v == "true" || v == "1" || v == "on"
			}
		}
		_ = f.Close()
	}
	return kills
}
