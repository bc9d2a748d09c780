package process

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// cgroupPrefix begins the names of the directories in which supervisors keep
// their cgroups. The uid follows, and what tells supervisors of one user apart.
const cgroupPrefix = "dspy-agent-"

// noCgroups is what the log says where cgroups cannot be used.
const noCgroups = "tasks run without cgroups"

// openCgroups returns the set for the supervisor of a runtime directory, or nil
// where cgroup v2 is absent, not delegated to us, or does not work as it should.
// Then one line of the log says why: what escapes from a task is harder to find.
func openCgroups(runtimeDir string, log *slog.Logger) *cgroups {
	own, err := ownCgroup()
	if err != nil {
		log.Info(noCgroups, "reason", err)
		return nil
	}
	c, err := makeCgroups(cgroupsDir(own, runtimeDir))
	if err != nil {
		log.Info(noCgroups, "reason", err)
		return nil
	}
	c.sweep()
	// Where our own cgroup has it to give, each task's memory is counted by itself.
	_ = os.WriteFile(filepath.Join(c.dir, "cgroup.subtree_control"), []byte("+memory"), 0)
	lacks, err := c.probe()
	if err != nil {
		log.Info(noCgroups, "reason", err)
		c.close()
		return nil
	}
	if lacks != "" {
		log.Info("cgroups are used, without what this kernel lacks", "lacks", lacks)
	}
	return c
}

// cgroupsDir is where the supervisor of a runtime directory has its set.
func cgroupsDir(own, runtimeDir string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(runtimeDir)) // a hash never fails
	return filepath.Join(own, fmt.Sprintf("%s%d-%08x", cgroupPrefix, os.Getuid(), h.Sum32()))
}

// makeCgroups makes the directory of a set and locks it, which keeps others from
// taking it for litter.
func makeCgroups(dir string) (*cgroups, error) {
	for range 3 { // somebody may be clearing away what was left there
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cgroups are not delegated to us: %w", err)
		}
		lock, err := lockDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &cgroups{dir: dir, lock: lock}, nil
	}
	return nil, fmt.Errorf("%s is removed again and again", dir)
}

// lockDir takes an flock on a directory that lasts as long as the file is open.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	err = host.LockOpen(f)
	if err == nil {
		err = stillThere(f, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// stillThere checks that what was opened has not been removed meanwhile.
func stillThere(f *os.File, path string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(path)
	if err == nil && !os.SameFile(opened, named) {
		err = fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return err
}

// sweep removes what a killed supervisor left. Those in use stay: rmdir(2)
// refuses them.
func (c *cgroups) sweep() { c.found = removeCgroupsIn(c.dir) }

// removeCgroupsIn removes those that nobody is in, and returns the others.
func removeCgroupsIn(dir string) (inUse map[string]bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	inUse = map[string]bool{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() && unix.Rmdir(path) != nil {
			inUse[path] = true
		}
	}
	return inUse
}

// sweepOthers removes the sets of this user's supervisors that are gone and left
// nobody behind. One that is locked is in use.
func (c *cgroups) sweepOthers() {
	if c == nil {
		return
	}
	parent := filepath.Dir(c.dir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	ours := fmt.Sprintf("%s%d-", cgroupPrefix, os.Getuid())
	for _, e := range entries {
		dir := filepath.Join(parent, e.Name())
		if !e.IsDir() || dir == c.dir || !strings.HasPrefix(e.Name(), ours) {
			continue
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue
		}
		removeCgroupsIn(dir)
		_ = unix.Rmdir(dir) // fails while tasks of it go on
		_ = lock.Close()    // only a lock
	}
}

// ownCgroup returns the directory of our own cgroup.
func ownCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	path := ""
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = p
		}
	}
	if path == "" {
		return "", errors.New("no cgroup v2")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		// id parent major:minor root mountpoint options ... - type source superoptions
		head, tail, ok := strings.Cut(line, " - ")
		f := strings.Fields(head)
		if !ok || len(f) < 5 || !strings.HasPrefix(tail, "cgroup2 ") {
			continue
		}
		rel, err := filepath.Rel(f[3], path)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		return filepath.Join(f[4], rel), nil
	}
	return "", errors.New("no cgroup v2 mount shows our cgroup")
}
