package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process"
)

// runtimePrefix begins the names of the runtime directories of this test binary, by which
// the supervisors that it has started are known.
var runtimePrefix = fmt.Sprintf("app%d-", os.Getpid())

// endSupervisors ends the supervisors with such a runtime directory, which outlive their
// daemons, and waits until they are gone.
func endSupervisors(t *testing.T, runtime string) {
	t.Helper()
	for _, pid := range supervisors(runtime) {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := endProcess(fd); err != nil {
			t.Errorf("the supervisor of %s, process %d: %v", runtime, pid, err)
		}
		_ = unix.Close(fd)
	}
}

// endProcess asks a process to end, and kills one that does not.
func endProcess(fd int) error {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		end := time.Now().Add(20 * time.Second)
		for time.Now().Before(end) {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(poll, int(time.Until(end).Milliseconds())+1)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			if n == 1 {
				if sig == unix.SIGKILL {
					return errors.New("it had to be killed")
				}
				return nil
			}
		}
	}
	return errors.New("it does not end")
}

// supervisors are those whose runtime directory has that text in its path.
func supervisors(runtime string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, err := os.ReadFile(file)
		args := strings.Split(string(b), "\x00")
		if err != nil || len(args) < 2 || args[1] != process.SupervisorArg || !strings.Contains(string(b), runtime) {
			continue // the process has ended meanwhile, or is another
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
