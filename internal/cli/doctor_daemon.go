package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

// checkPrograms looks for the daemon's binary, and whether it is of our build.
func checkPrograms(ctx context.Context, s *session, _ config.Config) []jsonFinding {
	const check = "programs"
	path, err := s.findDaemon()
	if err != nil {
		return finding(check, levelFail, err.Error(), "install "+daemonProgram+" and "+Program+" into the same folder")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return finding(check, levelFail, fmt.Sprintf("%s does not run: %s", path, err), "install it anew")
	}
	if words := strings.Fields(string(out)); !slices.Contains(words, version.String()) {
		return finding(check, levelWarn, fmt.Sprintf("%s is of another build (%s) than %s (%s)", path, strings.TrimSpace(string(out)), Program, version.String()),
			"install both from the same build")
	}
	return finding(check, levelOK, path+" is of the same build", "")
}

// checkRuntimeDir looks at the folder of the socket.
func checkRuntimeDir(_ context.Context, _ *session, cfg config.Config) []jsonFinding {
	const check = "runtime dir"
	dir, err := runtimedir.Dir(cfg.RuntimeDir, os.Getuid())
	if err != nil {
		return finding(check, levelFail, err.Error(), "")
	}
	if cfg.RuntimeDir == "" {
		return finding(check, levelOK, dir+" is ours alone (XDG_RUNTIME_DIR is not set)", "")
	}
	return finding(check, levelOK, dir+" is ours alone", "")
}

// checkDaemon looks whether the daemon answers, and what it says about its parts.
func checkDaemon(ctx context.Context, s *session, cfg config.Config) []jsonFinding {
	const check = "daemon"
	h, err := s.health(ctx, cfg)
	switch {
	case err != nil && task.CodeOf(err) == task.CodeUnavailable && ownerPID(cfg.QueueDir) != 0:
		return finding(check, levelFail, fmt.Sprintf("pid %d owns the queue and does not answer", ownerPID(cfg.QueueDir)),
			Program+" stop, then "+startHint(cfg))
	case err != nil && task.CodeOf(err) == task.CodeUnavailable:
		return finding(check, levelWarn, "none runs for "+cfg.String(), startHint(cfg))
	case err != nil:
		return finding(check, levelFail, err.Error(), "")
	case !h.GetHealthy():
		return finding(check, levelFail, fmt.Sprintf("pid %d does not accept tasks", h.GetPid()), "its log says why: "+h.GetLogFile())
	}
	out := finding(check, levelOK, fmt.Sprintf("pid %d accepts tasks", h.GetPid()), "")
	if v := h.GetVersion(); v != version.Version && v != version.String() {
		out = finding(check, levelWarn, fmt.Sprintf("pid %d is of version %s, this is %s", h.GetPid(), v, version.String()),
			Program+" stop, then "+startHint(cfg)+"; running tasks go on")
	}
	for _, part := range slices.Sorted(maps.Keys(h.GetServices())) {
		if slices.Contains(laterParts, part) {
			continue // checkLater has them
		}
		state := h.GetServices()[part]
		switch {
		case state == "ok":
			out = append(out, finding(part, levelOK, state, "")...)
		case strings.HasPrefix(state, "down"): // no task starts until it is back
			out = append(out, finding(part, levelFail, state, fmt.Sprintf("%s stop, then %s; running tasks go on; if that does not help, the log says more: %s",
				Program, startHint(cfg), h.GetLogFile()))...)
		default:
			out = append(out, finding(part, levelWarn, state, "")...)
		}
	}
	return out
}
