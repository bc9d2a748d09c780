package mounts

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Mount is one line of the table.
type Mount struct {
	Point  string // where it is mounted
	Type   string // as the kernel calls it: "nfs4", "ext4", "fuse.sshfs"
	Source string // "server:/export", "/dev/sda1", or whatever the one who mounted it said
}

// String says what and where it is: "NFS (server:/export, mounted on /home)".
func (m Mount) String() string {
	if m.Source == "" || m.Source == m.Type || m.Source == "none" {
		return fmt.Sprintf("%s (mounted on %s)", m.Kind(), m.Point)
	}
	return fmt.Sprintf("%s (%s, mounted on %s)", m.Kind(), m.Source, m.Point)
}

// Table is what is mounted, in the order in which it was: where two are mounted on
// one place, the later one hides the other.
type Table []Mount

// ErrTable is returned for a table that is none.
var ErrTable = errors.New("unexpected content of /proc/self/mountinfo")

// Read returns the kernel's table as this process sees it.
func Read() (Table, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read what is mounted: %w", err)
	}
	return Parse(string(b))
}

// Parse reads a table in the form of proc(5):
//
//	36 35 98:0 /root /point options [more ...] - type source options
func Parse(text string) (Table, error) {
	var t Table
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		head, tail := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(head) < 6 || len(tail) < 2 || !strings.HasPrefix(head[4], "/") {
			return nil, fmt.Errorf("%w: %q", ErrTable, line)
		}
		t = append(t, Mount{Point: unescape(head[4]), Type: unescape(tail[0]), Source: unescape(tail[1])})
	}
	return t, nil
}

// unescape undoes what the kernel does to bytes that would break the line: it
// writes them as \ and three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if b, ok := octal(s[i:]); ok {
			out.WriteByte(b)
			i += 3
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func octal(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s[1:4]) {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n*8 + int(c-'0')
	}
	return byte(n), n < 256
}
