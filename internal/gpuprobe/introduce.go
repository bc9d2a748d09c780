package gpuprobe

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// introduce says who the processes of a snapshot are, as /proc knows them. It is
// done here and not by the probe, so that it is done for nvidia-smi's too.
func introduce(s *gpu.Snapshot) {
	known := map[int]gpu.Process{}
	for i := range s.Devices {
		list := s.Devices[i].Sample.Processes
		for k := range list {
			who, ok := known[list[k].PID]
			if !ok {
				who = lookUp(list[k].PID)
				known[list[k].PID] = who
			}
			p := &list[k]
			p.StartTicks, p.UID, p.Comm, p.Cgroup, p.Gone = who.StartTicks, who.UID, who.Comm, who.Cgroup, who.Gone
		}
	}
}

// lookUp reads what everybody may know of a process. With hidepid, that is
// nothing: then it is there, and somebody else's.
func lookUp(pid int) gpu.Process {
	p := gpu.Process{PID: pid, UID: -1}
	stat, err := host.ReadStat(pid)
	if err != nil {
		p.Gone = errors.Is(unix.Kill(pid, 0), unix.ESRCH)
		return p
	}
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	p.StartTicks, p.Comm = stat.Start, strings.TrimSpace(read(dir+"comm"))
	p.UID, p.Cgroup = uid(read(dir+"status")), cgroup(read(dir+"cgroup"))
	return p
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "" // it ended, or is not ours to read: not known
	}
	return string(text)
}

// uid is the real user's id in /proc/PID/status, or -1.
func uid(status string) int {
	_, rest, ok := strings.Cut(status, "\nUid:")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return -1
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		return -1
	}
	return n
}

// cgroup is the most telling path of /proc/PID/cgroup: the longest. Under cgroup
// v2 there is one; under v1 the controllers that nobody uses say "/".
func cgroup(text string) string {
	longest := ""
	for line := range strings.Lines(text) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && len(parts[2]) > len(longest) {
			longest = parts[2]
		}
	}
	return longest
}
