package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// inhabitants returns the processes of this machine that are in the container with that
// id, by the names of their cgroups, which engines make of it. Where the engine's
// processes cannot be seen from here there are none.
func inhabitants(id string) []int {
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
		if err == nil && inhabits(pid, id) {
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

// isInit says whether a process is the first one of its container.
func isInit(pid int) bool {
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

// killInhabitant ends a process that is in the container.
func killInhabitant(pid int, id string) error { return signalInhabitant(pid, id, unix.SIGKILL) }

// signalInhabitant signals a process that is in the container, and never another one that has
// got its number since.
func signalInhabitant(pid int, id string, sig unix.Signal) error {
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
