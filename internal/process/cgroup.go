package process

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// cgroups is a set of cgroups (v2) below our own, one per running attempt. They
// are used again and again, so that a short task costs none of its own. Where
// none may be made it is nil, and everything works without.
type cgroups struct {
	dir  string
	lock *os.File // the directory, locked as long as a supervisor uses the set

	mu       sync.Mutex
	free     []*cgroup
	made     int
	disabled bool
	// found are those that were in use when we began. Only they can be an earlier
	// supervisor's: by now the path of another may be that of one of ours.
	found map[string]bool
}

// cgroup is one of the set. Its files stay open between uses.
type cgroup struct {
	set    *cgroups
	dir    *os.File
	events *os.File // cgroup.events, which says whether anybody is in it
	memory *os.File // memory.events; nil = no memory controller here
	// spent means that it must not be used again. In a cgroup that was ever killed
	// as a whole, Linux (seen on 6.18) also kills each process that is later started
	// right into it: it takes the old kill for one that raced with the fork.
	spent atomic.Bool
}

// take returns an empty cgroup; nil if there are none.
func (c *cgroups) take() *cgroup {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disabled {
		return nil
	}
	if n := len(c.free); n > 0 {
		g := c.free[n-1]
		c.free = c.free[:n-1]
		return g
	}
	return c.make()
}

// make adds one to the set. It begins at the next free number, since some may
// still be in use from before a restart.
func (c *cgroups) make() *cgroup {
	for range 1000 {
		c.made++
		path := filepath.Join(c.dir, strconv.Itoa(c.made))
		err := os.Mkdir(path, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil
		}
		g, err := c.open(path)
		if err != nil {
			return nil
		}
		return g
	}
	return nil
}

func (c *cgroups) open(path string) (*cgroup, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	events, err := os.Open(filepath.Join(path, "cgroup.events"))
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	g := &cgroup{set: c, dir: dir, events: events}
	if f, err := os.Open(filepath.Join(path, "memory.events")); err == nil {
		g.memory = f
	}
	return g, nil
}

// adopt returns the cgroup of an attempt that an earlier supervisor started;
// nil if it is gone.
func (c *cgroups) adopt(path string) *cgroup {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.found[path] {
		return nil
	}
	delete(c.found, path)
	g, err := c.open(path)
	if err != nil {
		return nil
	}
	g.spend() // that supervisor may have killed it
	return g
}

// disable stops the use of cgroups, when the kernel refused one.
func (c *cgroups) disable() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disabled = true
}

// close gives back the free ones.
func (c *cgroups) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.free {
		g.remove()
	}
	c.free = nil
	_ = unix.Rmdir(c.dir) // fails while others are in use
	_ = c.lock.Close()    // only a lock
}

func (g *cgroup) fd() int { return int(g.dir.Fd()) }

func (g *cgroup) path() []byte {
	if g == nil {
		return nil
	}
	return []byte(g.dir.Name())
}

// spend has the cgroup be removed, when it is given back, and not used again.
func (g *cgroup) spend() {
	if g != nil {
		g.spent.Store(true)
	}
}

// release gives the cgroup back to the set.
func (g *cgroup) release() {
	if g == nil {
		return
	}
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	if g.set.disabled || g.spent.Load() || g.oomKilled() || g.populated() {
		g.remove()
		return
	}
	g.set.free = append(g.set.free, g)
}

func (g *cgroup) remove() {
	_ = g.events.Close()
	if g.memory != nil {
		_ = g.memory.Close()
	}
	_ = unix.Rmdir(g.dir.Name()) // fails while somebody is in it; the next sweep has it
	_ = g.dir.Close()
}

// populated says whether any process is in it. When that cannot be told, yes.
func (g *cgroup) populated() bool {
	var b [128]byte
	n, err := unix.Pread(int(g.events.Fd()), b[:], 0)
	return err != nil || !bytes.Contains(b[:n], []byte("populated 0"))
}

// pids lists the processes in it.
func (g *cgroup) pids() []int {
	return pidsIn(g.dir.Name())
}

// pidsIn lists the processes in the cgroup with that path.
func pidsIn(path string) []int {
	b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var out []int
	for line := range strings.Lines(string(b)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// kill ends all processes in it at once, forks in progress included. It reports
// whether the kernel can do that (Linux 5.14).
func (g *cgroup) kill() bool {
	g.spend()
	return os.WriteFile(filepath.Join(g.dir.Name(), "cgroup.kill"), []byte("1"), 0) == nil
}

// oomKilled says whether the kernel killed somebody in it for lack of memory. One
// in which it did is not used again, so it was in the present use.
func (g *cgroup) oomKilled() bool {
	if g == nil || g.memory == nil {
		return false
	}
	var b [512]byte
	n, err := unix.Pread(int(g.memory.Fd()), b[:], 0)
	return err == nil && counterIn(b[:n], "oom_kill") > 0
}
