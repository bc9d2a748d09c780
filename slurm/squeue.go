package slurm

import (
	"strconv"
	"strings"
	"time"
)

// queueFormat is what squeue is asked for. The name is ours, and none of the others may
// have a bar in it but the reason, which is last.
const queueFormat = "%i|%j|%T|%P|%S|%N|%r"

// Job is what squeue says about a job.
type Job struct {
	ID        string
	Name      string
	State     State
	Partition string
	// Start is when it began, or is expected to; zero = not known.
	Start  time.Time
	Nodes  string
	Reason string
}

// parseJob reads a line of squeue; false when it is none of a job of ours: Slurm's
// lines may be mixed with what its plugins print.
func parseJob(line string) (Job, bool) {
	f := strings.SplitN(line, "|", 7)
	if len(f) != 7 {
		return Job{}, false
	}
	if _, err := strconv.ParseUint(f[0], 10, 64); err != nil {
		return Job{}, false // an element of an array
	}
	j := Job{ID: f[0], Name: f[1], State: State(f[2]), Partition: f[3], Nodes: f[5], Reason: f[6]}
	if n, err := strconv.ParseInt(f[4], 10, 64); err == nil && n > 0 {
		j.Start = time.Unix(n, 0)
	}
	return j, true
}
