package doctor

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroupDir returns the folder of the cgroup of a process under v2 ("") or under a
// controller of v1; "" when there is none or no mount shows it.
func cgroupDir(root string, pid int, controller string) (dir, mount string) {
	proc := filepath.Join(root, "/proc", strconv.Itoa(pid))
	path, ok := cgroupPath(filepath.Join(proc, "cgroup"), controller)
	if !ok {
		return "", ""
	}
	f, err := os.Open(filepath.Join(root, "/proc/self/mountinfo"))
	if err != nil {
		return "", ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// id parent major:minor root mountpoint options ... - type source superoptions
		head, tail, ok := strings.Cut(lines.Text(), " - ")
		at, of := strings.Fields(head), strings.Fields(tail)
		if !ok || len(at) < 5 || len(of) < 3 || !isCgroupMount(of, controller) {
			continue
		}
		rel, err := filepath.Rel(at[3], path)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		mount = filepath.Join(root, at[4])
		return filepath.Join(mount, rel), mount
	}
	return "", ""
}

func isCgroupMount(of []string, controller string) bool {
	if controller == "" {
		return of[0] == "cgroup2"
	}
	return of[0] == "cgroup" && slices.Contains(strings.Split(of[2], ","), controller)
}

// cgroupPath reads /proc/PID/cgroup: "0::/path" is that of v2, "4:memory:/path" that of
// a controller of v1.
func cgroupPath(file, controller string) (string, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if controller == "" && parts[0] == "0" || controller != "" && slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2], true
		}
	}
	return "", false
}

// cgroupChain lists the folders from the cgroup of a process up to the root, of v2
// and of a controller of v1.
func cgroupChain(root string, pid int, controller string) []string {
	var out []string
	for _, version := range []string{"", controller} {
		dir, mount := cgroupDir(root, pid, version)
		for ; dir != "" && strings.HasPrefix(dir, mount); dir = filepath.Dir(dir) {
			out = append(out, dir)
			if dir == mount {
				break
			}
		}
	}
	return out
}

// readRange counts the numbers in a list such as "0-3,8".
func readRange(path string) (int, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if errA != nil || errB != nil || b < a {
			return 0, false
		}
		n += b - a + 1
	}
	return n, true
}
