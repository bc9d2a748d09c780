package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is the unit of start times in /proc. The kernel's interface
// fixes it at 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// bootTime is a point on CLOCK_BOOTTIME: it goes on while the machine is
// suspended, nobody can set it, and all processes since boot agree on it. Time
// limits and start times are kept on it, so that they hold over a restart of
// the supervisor.
type bootTime int64

func bootNow() bootTime {
	var ts unix.Timespec
	// It cannot fail: the clock exists since Linux 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return bootTime(ts.Nano())
}

func (t bootTime) add(d time.Duration) bootTime { return t + bootTime(d) }

func (t bootTime) ticks() uint64 { return uint64(t) / uint64(time.Second/ticksPerSecond) }
