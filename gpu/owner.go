package gpu

import "strings"

// Owner is whose a process is.
type Owner struct {
	Kind OwnerKind
	Name string // the task's id, the service's name, the job's number, the container's short id
}

// OwnerKind says what kind of thing started a process.
type OwnerKind string

// The kinds.
const (
	OwnerTask      OwnerKind = "task"
	OwnerService   OwnerKind = "service"
	OwnerSlurm     OwnerKind = "slurm job"
	OwnerContainer OwnerKind = "container" // one that we did not start
	OwnerUser      OwnerKind = "user"      // anything else
)

// ProcessKey names a process for good: a number alone is given again.
type ProcessKey struct {
	PID        int
	StartTicks uint64
}

// Attribution is what we know about whose processes are whose.
type Attribution struct {
	Processes  map[ProcessKey]Owner
	Containers map[string]Owner // by id, 64 digits
	// Blind: we are in a pid namespace of our own, and the driver's pids mean
	// nothing here. Every process is then somebody else's.
	Blind bool
}

// Owner says whose a process is.
func (a Attribution) Owner(p Process) Owner {
	if a.Blind {
		return Owner{Kind: OwnerUser}
	}
	if o, ok := a.Processes[ProcessKey{p.PID, p.StartTicks}]; ok && p.StartTicks != 0 {
		return o
	}
	if id := containerID(p.Cgroup); id != "" {
		if o, ok := a.Containers[id]; ok {
			return o
		}
		return Owner{Kind: OwnerContainer, Name: id[:12]}
	}
	if job := slurmJob(p.Cgroup); job != "" {
		return Owner{Kind: OwnerSlurm, Name: job}
	}
	return Owner{Kind: OwnerUser}
}

// containerID finds the container in the path of a cgroup: 64 hexadecimal
// digits, as Docker, containerd and Podman all write it in some way
// ("/docker/ID", "docker-ID.scope", "libpod-ID.scope").
func containerID(cgroup string) string {
	const digits = 64
	run := 0
	for i := range len(cgroup) {
		c := cgroup[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' {
			if run++; run == digits && (i+1 == len(cgroup) || !isHex(cgroup[i+1])) {
				return cgroup[i+1-digits : i+1]
			}
		} else {
			run = 0
		}
	}
	return ""
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

// slurmJob finds the job's number in the path of a cgroup ("/slurm/uid_1000/job_42/step_0").
func slurmJob(cgroup string) string {
	for part := range strings.SplitSeq(cgroup, "/") {
		if n, ok := strings.CutPrefix(part, "job_"); ok && n != "" && strings.Trim(n, "0123456789") == "" {
			return n
		}
	}
	return ""
}
