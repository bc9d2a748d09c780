package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// owner is what owner.json in the queue directory says of the process that has
// the queue open.
type owner struct {
	BootID     string `json:"boot_id"`
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"`
	Socket     string `json:"socket"`
}

// liveOwner returns the owner of the queue if it runs on this host, else nil.
func liveOwner(queueDir string) *owner {
	data, err := os.ReadFile(filepath.Join(queueDir, "owner.json"))
	if err != nil {
		return nil
	}
	var o owner
	if json.Unmarshal(data, &o) != nil || o.PID <= 0 {
		return nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || strings.TrimSpace(string(boot)) != o.BootID || startTicks(o.PID) != o.StartTicks {
		return nil // of another host, of before the last boot, or its pid is somebody else's now
	}
	return &o
}

// ownerPID returns the pid of the live owner, or 0.
func ownerPID(queueDir string) int {
	if o := liveOwner(queueDir); o != nil {
		return o.PID
	}
	return 0
}

// startTicks returns when a process was started, in clock ticks after the boot:
// with its pid that names it for good. 0 when there is none.
func startTicks(pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; the start is the 22nd.
	_, rest, ok := strings.Cut(string(data[max(strings.LastIndexByte(string(data), ')'), 0):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0
	}
	var ticks uint64
	if _, err := fmt.Sscan(fields[19], &ticks); err != nil {
		return 0
	}
	return ticks
}
