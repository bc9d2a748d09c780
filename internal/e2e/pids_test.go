package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

func (w *world) killTasks() {
	for _, pid := range w.tasks() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// supervisor returns the pids of this world's supervisor: none or one, or for a
// moment the one that starts it.
func (w *world) supervisor() []int {
	return pids(func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(b), "\x00")
		return err == nil && len(args) > 1 && args[1] == "supervise" && strings.Contains(string(b), w.runtime)
	})
}

func (w *world) killSupervisor() {
	for _, pid := range w.supervisor() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// tasks returns the processes of tasks of this world, by the mark in their
// environment and by where it says their result belongs.
func (w *world) tasks() []int {
	return pids(func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err == nil && bytes.Contains(b, []byte("DSPY_RESULT_FILE="+w.queueDir))
	})
}

func pids(match func(int) bool) []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && match(pid) {
			out = append(out, pid)
		}
	}
	return out
}
