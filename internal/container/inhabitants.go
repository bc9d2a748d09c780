package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// processes are those of this machine, by the container that they are in.
type processes interface {
	// of returns those that live in a container.
	of(id string) []int
	// first says whether one is the first of its container.
	first(pid int) bool
	// signal signals one that is in the container, and never another one that has got its
	// number since.
	signal(pid int, id string, sig unix.Signal) error
}

// kernel tells of processes by the names of their cgroups, which engines make of a
// container's id. Where the engine's processes cannot be seen from here there are none.
type kernel struct{}

func (kernel) of(id string) []int {
	if id == "" {
		return nil
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		panic("glob: " + err.Error()) // the pattern is a constant
	}
	var pids []int
	for _, f := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err == nil && inhabits(pid, id) && !dead(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inhabits says whether a process is in the container.
func inhabits(pid int, id string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && bytes.Contains(b, []byte(id))
}

// dead says whether a process waits to be buried, all its threads with it.
func dead(pid int) bool {
	st, err := host.ReadStat(pid)
	if err != nil || st.State != 'Z' {
		return false
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err == nil && len(threads) <= 1
}

func (kernel) first(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(b) {
		if all, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			inside := bytes.Fields(all)
			return len(inside) > 1 && string(inside[len(inside)-1]) == "1"
		}
	}
	return false
}

func (kernel) signal(pid int, id string, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case err != nil:
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	if !inhabits(pid, id) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
