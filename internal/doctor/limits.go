package doctor

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// checkOpenFiles looks at the limit that the daemon inherits from this shell. The
// soft limit is raised to the hard one by every Go program, so the hard one counts.
func checkOpenFiles(context.Context, *examination) []Finding {
	const least, enough = 256, 1024
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return bad(Warning, "the limit of open files cannot be told: "+err.Error(), "")
	}
	text := numberText(lim.Max) + " files may be open in a process"
	const mend = "raise the hard limit (ulimit -Hn, limits.conf) before start; each running task takes 6 in the supervisor"
	switch {
	case lim.Max < least:
		return bad(Problem, text, mend)
	case lim.Max < enough:
		return bad(Warning, text, mend)
	}
	return good("%s", text)
}

// numberText writes a limit.
func numberText(n uint64) string {
	if n > math.MaxInt64 {
		return "any number of"
	}
	return humanize.Comma(int64(n))
}

// checkProcesses says how many more processes the user and the cgroups may have.
func checkProcesses(_ context.Context, x *examination) []Finding {
	const least, enough = 16, 100
	free, by := uint64(math.MaxUint64), ""
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &lim); err == nil && x.UID != 0 && lim.Cur != math.MaxUint64 { // root has none
		free, by = remaining(lim.Cur, threadsOf(x.UID)), fmt.Sprintf("the limit of %s for you (ulimit -u)", humanize.Comma(int64(lim.Cur)))
	}
	for _, dir := range cgroupChain(x.Root, os.Getpid(), "pids") {
		limit, limited := readNumber(filepath.Join(dir, "pids.max"))
		used, known := readNumber(filepath.Join(dir, "pids.current"))
		if left := remaining(limit, used); limited && known && left < free {
			free, by = left, fmt.Sprintf("the limit of %s of a cgroup (%s/pids.max)", humanize.Comma(int64(limit)), dir)
		}
	}
	if by == "" {
		return good("nothing bounds the number of processes")
	}
	text := fmt.Sprintf("%s more processes and threads by %s", humanize.Comma(int64(free)), by)
	const mend = "have the limit raised, or lower capacity.cpus; a task that cannot be started is tried again"
	switch {
	case free < least:
		return bad(Problem, text, mend)
	case free < enough:
		return bad(Warning, text, mend)
	}
	return good("%s", text)
}

// threadsOf counts what the kernel counts for RLIMIT_NPROC: the threads of a user.
func threadsOf(uid int) uint64 {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	var n uint64
	for _, dir := range procs {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != uid {
			continue
		}
		if stat, err := os.ReadFile(dir + "/stat"); err == nil {
			n += threadsIn(string(stat))
		}
	}
	return n
}

// threadsIn reads num_threads, field 20 of /proc/PID/stat. The name, in parentheses,
// may hold anything.
func threadsIn(stat string) uint64 {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 18 {
		return 0
	}
	n, err := strconv.ParseUint(fields[17], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

// readNumber reads a file that holds a number; "max" is none.
func readNumber(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
