package doctor

import (
	"bufio"
	"cmp"
	"context"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkLogin says whether the system ends what a user left running at logout.
func checkLogin(_ context.Context, x *examination) []Finding {
	if _, err := os.Stat(x.system("/run/systemd/system")); err != nil {
		return good("no systemd here: what you start goes on after logout")
	}
	name := strconv.Itoa(x.UID)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	if _, err := os.Stat(x.system(filepath.Join("/var/lib/systemd/linger", filepath.Base(name)))); err == nil {
		return good("what you start goes on after logout (linger is on)")
	}
	const mend = "loginctl enable-linger"
	if readLogind(x.Root).kills(name) {
		return bad(Problem, "this system ends everything of yours at logout (KillUserProcesses=yes in logind.conf), the daemon and tasks included", mend)
	}
	return bad(Note, "what you start in a shell goes on after logout; systemd user units would end, and /run/user goes away (so sockets lie in /tmp)", "for systemd user units: "+mend)
}

// logind is what logind.conf(5) says about processes that are left at logout.
type logind struct {
	all           bool // KillUserProcesses
	only, exclude []string
}

// kills says whether those of a user are ended.
func (l logind) kills(name string) bool {
	if slices.Contains(l.exclude, name) || len(l.only) > 0 && !slices.Contains(l.only, name) {
		return false
	}
	return l.all
}

// logindFiles returns the files with settings in the order in which they count: the
// main file, then the others by name; of one name that in the first folder.
func logindFiles(root string) []string {
	dirs := []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"}
	byName := map[string]string{}
	main := ""
	for _, dir := range slices.Backward(dirs) {
		dir = filepath.Join(root, dir)
		if _, err := os.Stat(filepath.Join(dir, "logind.conf")); err == nil {
			main = filepath.Join(dir, "logind.conf")
		}
		parts, err := filepath.Glob(filepath.Join(dir, "logind.conf.d", "*.conf"))
		if err != nil {
			continue // the pattern is a constant but for the root
		}
		for _, path := range parts {
			byName[filepath.Base(path)] = path
		}
	}
	files := []string{main}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		files = append(files, byName[name])
	}
	return files
}

func readLogind(root string) logind {
	l := logind{exclude: []string{"root"}}
	for _, path := range logindFiles(root) {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			l.set(lines.Text())
		}
		_ = f.Close()
	}
	return l
}

// set takes in a line. What comes later counts; an empty list begins a new one.
func (l *logind) set(line string) {
	key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
	value = strings.TrimSpace(value)
	switch strings.TrimSpace(key) {
	case "KillUserProcesses":
		l.all = slices.Contains([]string{"yes", "true", "1", "on", "y", "t"}, strings.ToLower(cmp.Or(value, "no")))
	case "KillOnlyUsers":
		l.only = longer(l.only, value)
	case "KillExcludeUsers":
		l.exclude = longer(l.exclude, value)
	}
}

func longer(list []string, value string) []string {
	if value == "" {
		return nil
	}
	return append(list, strings.Fields(value)...)
}
