package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// checkSupervisor looks at the process that starts the tasks and waits for them. It
// says nothing to it: what it is asked counts as word of a daemon.
func checkSupervisor(_ context.Context, x *examination, _ config.Config) []Finding {
	if x.SupervisorSocket == "" {
		return nil
	}
	l, err := x.supervisor()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return bad(Note, "none runs; the daemon starts one when it needs it", "")
	case err != nil:
		return bad(Problem, fmt.Sprintf("the socket %s cannot be used: %s", l.path, err), "")
	}
	if _, err := host.ReadStat(l.pid); err != nil {
		return bad(Warning, fmt.Sprintf("pid %d has %s and cannot be looked at: %s", l.pid, l.path, err), "")
	}
	if isStopped(l.pid) {
		return stopped("the process supervisor", l.pid)
	}
	return good("pid %d has %s running", l.pid, processCount(children(l.pid)))
}

func processCount(n int) string {
	if n == 1 {
		return "1 process"
	}
	return humanize.Comma(int64(n)) + " processes"
}

// children counts the processes that a process has started and waits for.
func children(pid int) int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0
	}
	n := 0
	for _, path := range lists {
		if data, err := os.ReadFile(path); err == nil {
			n += len(strings.Fields(string(data)))
		}
	}
	return n
}
