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

// killInhabitant ends a process that is in the container, and never another one that has
// got its number since.
func killInhabitant(pid int, id string) error {
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
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
