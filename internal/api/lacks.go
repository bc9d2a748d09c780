package api

import (
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Machine is what there is for tasks; 0 = not known.
type Machine struct {
	CPUMilli int64
	MemBytes int64
}

// lacks says what a task that waits needs and this machine does not have; "" where
// it has enough. Such a task is accepted all the same, since the next daemon may
// have more; but who submitted it has to know that nothing will come of it here.
func (s service) lacks(t task.Task) string {
	if t.Spec == nil || t.State() != task.Pending || t.Status().Cancel != nil || t.Status().Held != "" {
		return ""
	}
	need, has := t.Spec.Resources, s.opts.Machine
	switch {
	case has.CPUMilli > 0 && need.CPU() > has.CPUMilli:
		return fmt.Sprintf("it needs %s CPUs; this machine has %s for tasks, so it does not start here", cpus(need.CPU()), cpus(has.CPUMilli))
	case has.MemBytes > 0 && need.MemBytes > has.MemBytes:
		return fmt.Sprintf("it needs %s of memory; this machine has %s for tasks, so it does not start here",
			humanize.IBytes(uint64(need.MemBytes)), humanize.IBytes(uint64(has.MemBytes)))
	}
	return ""
}

func cpus(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }
