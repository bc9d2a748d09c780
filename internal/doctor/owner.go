package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// checkOwner says who has the queue open, as far as its file and the kernel tell.
func checkOwner(_ context.Context, x *examination, cfg config.Config) []Finding {
	o, err := x.owner()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return bad(Problem, err.Error(), actAsOwner)
	case err != nil:
		if pid := x.Holder(cfg.QueueDir); pid != 0 {
			return bad(Problem, fmt.Sprintf("%s, and pid %d has the queue open", err, pid), fmt.Sprintf("kill %d, then %s; running tasks go on", pid, x.Start(cfg)))
		}
		return bad(Warning, err.Error(), "nothing: the next start replaces it")
	case o == nil:
		return good("nobody has the queue open")
	case o.runs():
		return good("pid %d has the queue open since %s", o.PID, stamp(o.StartedAt))
	}
	return o.gone()
}

// actAsOwner is what to do where a queue is somebody else's.
const actAsOwner = "act as its owner (sudo -u), or choose a workspace of your own with --workspace"

// stranger says whether the owner is a process of another user, whose queue it is
// then: it answers nobody else, and nothing is wrong with that.
func (x *examination) stranger() (uid int, is bool) {
	o := x.liveOwner()
	if o == nil {
		return 0, false
	}
	info, err := os.Stat("/proc/" + strconv.Itoa(o.PID))
	if err != nil {
		return 0, false // it has just ended
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == x.UID {
		return 0, false
	}
	return int(st.Uid), true
}

// gone says of an owner that does not run here where it is, or was.
func (o *Owner) gone() []Finding {
	name, err := os.Hostname()
	if err == nil && o.Host != "" && o.Host != name {
		return bad(Warning, fmt.Sprintf("the queue was opened on host %s (pid %d, %s), and this is %s: if that daemon runs, only commands there reach it", o.Host, o.PID, stamp(o.StartedAt), name),
			"on "+o.Host+": dspy-agent stop, or work there")
	}
	if boot, err := host.BootID(); err == nil && boot != o.BootID {
		return bad(Note, fmt.Sprintf("pid %d had the queue open when this machine was restarted; the next start takes over", o.PID), "")
	}
	return bad(Note, fmt.Sprintf("pid %d had the queue open and is dead; the next start takes over, and finds running tasks again", o.PID), "")
}
