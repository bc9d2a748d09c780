package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// oomCounter counts the processes that the kernel killed for lack of memory: in
// our memory cgroup where it can be read, else on the whole machine.
type oomCounter struct {
	path string
	seen atomic.Uint64
}

func openOOMCounter() *oomCounter {
	c := &oomCounter{path: "/proc/vmstat"}
	if p := memoryCgroupV1(); p != "" {
		c.path = p
	} else if own, err := ownCgroup(); err == nil {
		if p := filepath.Join(own, "memory.events"); readable(p) {
			c.path = p
		}
	}
	c.read()
	return c
}

// memoryCgroupV1 returns the file that counts for our cgroup of the old memory
// controller; "" = there is none.
func memoryCgroupV1() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && f[1] == "memory" {
			if p := filepath.Join("/sys/fs/cgroup/memory", f[2], "memory.oom_control"); readable(p) {
				return p
			}
		}
	}
	return ""
}

func readable(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.Contains(string(b), "oom_kill ")
}

// read returns the present count.
func (c *oomCounter) read() uint64 {
	b, err := os.ReadFile(c.path)
	if err != nil {
		return c.last()
	}
	n := counterIn(b, "oom_kill")
	c.seen.Store(n)
	return n
}

// last returns the count of the last read, which is at most about a second old
// while tasks run. To read it for every task would cost a short one too much.
func (c *oomCounter) last() uint64 { return c.seen.Load() }

// counterIn finds "name value" among lines.
func counterIn(b []byte, name string) uint64 {
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
