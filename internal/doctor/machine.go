package doctor

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkMemory says how much memory tasks can have together.
func checkMemory(context.Context, *examination) []Finding {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return bad(Note, "the memory of this machine cannot be told: "+err.Error(), "")
	}
	total := int64(min(uint64(info.Totalram)*uint64(info.Unit), math.MaxInt64)) //nolint:unconvert // 32 bits wide on 32-bit machines
	return judgeMemory(config.MachineMemory(), total)
}

func judgeMemory(ours, total int64) []Finding {
	const little = 256 << 20
	text := bytesText(ours) + " for all tasks together"
	if ours < total {
		text += fmt.Sprintf(": the limit of a cgroup (memory.max); the machine has %s", bytesText(total))
	}
	switch {
	case ours < little:
		return bad(Warning, text, "have the limit raised")
	case ours < total:
		return bad(Note, text, "")
	}
	return good("%s", text)
}

// checkCPUs says how many CPUs tasks can have together.
func checkCPUs(_ context.Context, x *examination) []Finding {
	online := 0
	if total, ok := readRange(x.system("/sys/devices/system/cpu/online")); ok {
		online = total
	}
	return judgeCPUs(config.MachineCPUs(), online)
}

func judgeCPUs(ours, online int) []Finding {
	if ours < online {
		return bad(Note, fmt.Sprintf("%d CPUs for all tasks together, of the %d of this machine: the quota of a cgroup (cpu.max), or the affinity", ours, online), "")
	}
	return good("%d CPUs for all tasks together", ours)
}
