package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// oomCounter counts the processes of the whole machine that the kernel killed for
// lack of memory. It says nothing about whose they were: only the count of an
// attempt's own cgroup does.
type oomCounter struct{ seen atomic.Uint64 }

func openOOMCounter() *oomCounter {
	c := &oomCounter{}
	c.read()
	return c
}

// read returns the present count.
func (c *oomCounter) read() uint64 {
	b, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return c.last()
	}
	n := counterIn(b, "oom_kill") // none before Linux 4.13
	c.seen.Store(n)
	return n
}

// last returns the count of the last read, which is at most about a second old
// while tasks run. To read it for every task would cost a short one too much.
func (c *oomCounter) last() uint64 { return c.seen.Load() }

// killedText is for a SIGKILL that we did not send, and of which nothing says for
// sure that it was the kernel's.
func (s *supervisor) killedText(p *proc) string {
	const text = "killed by signal 9 (SIGKILL), which the scheduler did not send: perhaps by somebody else, perhaps by the kernel for lack of memory"
	if n := s.oom.read() - min(p.oomBefore, s.oom.last()); n > 0 {
		return fmt.Sprintf("%s, of which it killed %d on this machine while the task ran; ask for less memory, or for a larger limit", text, n)
	}
	return text
}

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
