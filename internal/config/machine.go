package config

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MachineCPUs is how many CPUs this process may use: those of its affinity
// mask, no more than its cgroup's quota allows.
func MachineCPUs() int { return runtime.GOMAXPROCS(0) }

// MachineMemory is how many bytes of memory this process may use: what the
// machine has, or what its cgroup allows if that is less. 0 = it cannot be told.
func MachineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	total := uint64(info.Totalram) * uint64(info.Unit) //nolint:unconvert // 32 bits wide on 32-bit machines
	if limit, ok := cgroupMemory(); ok {
		total = min(total, limit)
	}
	return int64(min(total, math.MaxInt64))
}

// cgroupMemory returns the least memory limit on the way from our cgroup to the
// root, in either version of cgroups.
func cgroupMemory() (least uint64, found bool) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	least = math.MaxUint64
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		root, file := "/sys/fs/cgroup", "memory.max"
		if parts[0] != "0" {
			if parts[1] != "memory" {
				continue
			}
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for dir := parts[2]; ; dir = filepath.Dir(dir) {
			if n, ok := readLimit(filepath.Join(root, dir, file)); ok {
				least, found = min(least, n), true
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least, found
}

// readLimit reads one limit; "max" and what cannot be read are none.
func readLimit(path string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil && n > 0
}
