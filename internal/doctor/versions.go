package doctor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkVersions compares the builds of everything that is ours and runs.
func checkVersions(ctx context.Context, x *examination, cfg config.Config) []Finding {
	same := []string{"this program"}
	var out []Finding
	if found := x.daemonProgram(ctx); found != nil {
		out = append(out, found...)
	} else {
		same = append(same, "the daemon's program")
	}
	if h, err := x.health(); err == nil {
		if x.isOurs(h.Version) {
			same = append(same, "the daemon")
		} else {
			out = append(out, bad(Warning, fmt.Sprintf("the daemon (pid %d) is of version %s, this program is %s", h.PID, h.Version, x.Version), restart(x, cfg))...)
		}
	}
	if l, err := x.supervisor(); x.SupervisorSocket != "" && err == nil {
		text, err := buildOf(ctx, fmt.Sprintf("/proc/%d/exe", l.pid))
		switch {
		case err != nil:
			out = append(out, bad(Note, fmt.Sprintf("the build of the process supervisor (pid %d) cannot be told: %s", l.pid, cause(err)), "")...)
		case x.isOurs(text):
			same = append(same, "the supervisor")
		default:
			out = append(out, bad(Note, fmt.Sprintf("the process supervisor (pid %d) is of another build (%s), which is fine: it leaves when its tasks have ended and the daemon has left", l.pid, text), "")...)
		}
	}
	return append(good("%s: %s", x.Version, strings.Join(same, ", ")), out...)
}

// daemonProgram says what is wrong with the daemon's binary; nil if nothing is.
func (x *examination) daemonProgram(ctx context.Context) []Finding {
	path, err := x.Orchestrator()
	if err != nil {
		return bad(Problem, err.Error(), "install both programs into the same folder (make install)")
	}
	text, err := buildOf(ctx, path)
	switch {
	case err != nil:
		return bad(Problem, fmt.Sprintf("%s does not run: %s", path, err), "install it anew")
	case !x.isOurs(text):
		return bad(Warning, fmt.Sprintf("%s is of another build (%s) than this program (%s)", path, text, x.Version), "install both from the same build")
	}
	return nil
}

// isOurs says whether a text has our own version as one of its words.
func (x *examination) isOurs(text string) bool {
	return slices.Contains(strings.Fields(text), x.Version)
}

// restart is how a daemon of this build takes the place of the one that runs.
func restart(x *examination, cfg config.Config) string {
	return "dspy-agent stop, then " + x.Start(cfg) + "; running tasks go on"
}

// buildOf returns what a program of ours says about its build. That of a process
// may have been replaced since it was started; the kernel has it still.
func buildOf(ctx context.Context, path string) (string, error) {
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = 100 * time.Millisecond // if it leaves a child with its output
	out, err := cmd.Output()
	if errors.Is(err, syscall.ENOENT) {
		err = fmt.Errorf("it is not there: %w", err)
	}
	return strings.Join(strings.Fields(string(out)), " "), err
}
