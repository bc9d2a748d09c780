package process

import (
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// origin is the supervisor that something is known from: one at the other end of a
// connection, or one on another host, by what it has written into the spool.
type origin struct {
	where host.Identity
	id    string
}

// handleOf is the handle of an attempt that the supervisor reports.
func (o *origin) handleOf(r *supervisorpb.Report) handle {
	return handle{
		Host: o.where.Name, Machine: o.where.Machine, Boot: o.where.Boot, PIDs: o.where.PIDs, Supervisor: o.id,
		PID: r.GetPid(), Start: r.GetStartTicks(), Until: max(r.GetStartTicks(), r.GetStartTicksTo()), Cgroup: string(r.GetCgroup()),
	}
}

// lostText is for an attempt of which no trace is left.
func (o *origin) lostText() string {
	return fmt.Sprintf("had been handed to the process supervisor on %s, which knows nothing of it: its journal was removed or damaged", o.where.Name)
}
