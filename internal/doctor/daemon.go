package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// checkDaemon says whether the daemon runs, answers and accepts tasks.
func checkDaemon(_ context.Context, x *examination, cfg config.Config) []Finding {
	o := x.liveOwner()
	if o != nil && isStopped(o.PID) { // it would not answer, so it is not waited for
		return stopped("the daemon", o.PID)
	}
	if uid, is := x.stranger(); is {
		return bad(Problem, fmt.Sprintf("pid %d is the daemon of %s, and answers nobody else", o.PID, userText(uid)), actAsOwner)
	}
	h, err := x.health()
	why := "no answer within " + Patience.String()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		why = err.Error()
	}
	switch {
	case err == nil && !h.Healthy:
		return bad(Problem, fmt.Sprintf("pid %d does not accept tasks", h.PID), "its log says why: "+h.LogFile)
	case err == nil:
		out := good("pid %d accepts tasks, since %s", h.PID, stamp(h.StartedAt))
		if h.Stale != "" {
			out = append(out, bad(Warning, h.Stale, restart(x, cfg))...)
		}
		return out
	case o != nil:
		return bad(Problem, fmt.Sprintf("pid %d has the queue open and does not answer: %s", o.PID, why),
			fmt.Sprintf("its log may say more; if it stays so: kill -9 %d, then %s; running tasks go on", o.PID, x.Start(cfg)))
	case task.CodeOf(err) == task.CodeUnavailable:
		return bad(Note, "none runs for "+cfg.String(), x.Start(cfg))
	}
	return bad(Problem, "the daemon cannot be asked: "+why, "")
}

// isStopped says whether a process is stopped, by a signal or a debugger.
func isStopped(pid int) bool {
	st, err := host.ReadStat(pid)
	return err == nil && (st.State == 'T' || st.State == 't')
}

// stopped is the finding of a process that is.
func stopped(who string, pid int) []Finding {
	return bad(Problem, fmt.Sprintf("%s (pid %d) is stopped: nothing happens until it goes on", who, pid), fmt.Sprintf("kill -CONT %d", pid))
}

// checkParts says what the daemon says about its parts. Those of later releases, the
// doors and the drop folder have checks of their own.
func checkParts(_ context.Context, x *examination, cfg config.Config) []Finding {
	h, err := x.health()
	if err != nil {
		return nil // checkDaemon says so
	}
	var well []string
	var out []Finding
	for _, part := range slices.Sorted(maps.Keys(h.Parts)) {
		state := h.Parts[part]
		switch {
		case part == partGRPC, part == partHTTP, part == partDropFolder, state == notYet:
		case strings.HasPrefix(state, "none: "), strings.HasPrefix(state, "off: "): // each of these has a check of its own
		case state == "ok":
			well = append(well, part)
		case strings.HasPrefix(state, "down"): // no task starts until it is back
			out = append(out, bad(Problem, part+" is "+state, restart(x, cfg)+"; if that does not help, the log says more: "+h.LogFile)...)
		default:
			out = append(out, bad(Warning, part+": "+state, "")...)
		}
	}
	if len(well) > 0 {
		out = append(good("%s: ok", strings.Join(well, ", ")), out...)
	}
	return out
}

// What a daemon calls its doors, and says of parts that come later.
const (
	partGRPC = "grpc"
	partHTTP = "http"
	// partDropFolder is the door made of files.
	partDropFolder = "drop_folder"
	notYet         = "not in this release yet"
)
