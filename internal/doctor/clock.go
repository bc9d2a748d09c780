package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkClock looks for a clock that was never set, that is behind what is in the
// queue, that was set while the daemon ran, or that nothing keeps right.
func checkClock(_ context.Context, x *examination, cfg config.Config) []Finding {
	now := x.Now()
	if now.Before(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) {
		return bad(Problem, "the clock says "+stamp(now)+": it was never set", "set it (timedatectl, date); times in the queue come from it")
	}
	if changed := lastChange(cfg.QueueDir); changed.Sub(now) > skew {
		return bad(Problem, fmt.Sprintf("the clock says %s, and the queue was last changed %s later, at %s", stamp(now), span(changed.Sub(now)), stamp(changed)),
			"set the clock (timedatectl, date); until then retries and retention wait for that time to come again")
	}
	var out []Finding
	if o := x.liveOwner(); o != nil {
		out = append(out, setSince(o, now)...)
	}
	var t unix.Timex // asks, and sets nothing
	state, err := unix.Adjtimex(&t)
	if err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		out = append(out, bad(Note, stamp(now)+"; the kernel says that nothing keeps this clock right", "on one machine it does no harm; else have it set by NTP (chrony, timedatectl set-ntp true)")...)
	}
	switch {
	case out != nil:
		return out
	case err != nil: // a sandbox that does not let us ask
		return good("%s", stamp(now))
	}
	return good("%s, kept right by NTP or the like", stamp(now))
}

// lastChange returns when the queue's database was written last; zero if there is
// none. Every event is a write of it.
func lastChange(queueDir string) time.Time {
	current, err := os.ReadFile(filepath.Join(queueDir, "CURRENT"))
	if err != nil {
		return time.Time{}
	}
	info, err := os.Stat(filepath.Join(queueDir, filepath.Base(strings.TrimSpace(string(current)))))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// How long a daemon may take from its beginning until it has the queue open; within
// that a clock that was set back cannot be told.
const opening = 2 * time.Minute

// setSince says whether the clock was set since the daemon began. The kernel counts
// the time since boot by another clock, which nobody sets, and knows when the daemon
// began by that; the daemon wrote down when it began by this one.
func setSince(o *Owner, now time.Time) []Finding {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil || o.StartedAt.IsZero() {
		return nil
	}
	const tick = time.Second / 100 // USER_HZ
	age := time.Duration(ts.Nano()) - time.Duration(o.StartTicks)*tick
	late := o.StartedAt.Sub(now.Add(-age)) // how long it took to open the queue, were it not for the clock
	which, by := "back", late
	switch {
	case late < -skew:
		which, by = "forward", -late
	case late < opening:
		return nil
	}
	return bad(Note, fmt.Sprintf("the clock was set %s by about %s since the daemon began; times before that are off by as much, and running tasks keep their time limits", which, span(by)), "")
}
