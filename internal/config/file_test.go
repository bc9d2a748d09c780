package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	good := write("good", "x", 0o644)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	me, other := os.Geteuid(), os.Geteuid()+1
	own := "the file belongs to uid " + strconv.Itoa(me) + ", and not to you (uid " + strconv.Itoa(other) + ") or root: it says which programs run as you, so make a copy of your own"
	if me == 0 {
		own = "" // root's file is anybody's
	}
	for _, tc := range []struct {
		path  string
		uid   int
		found bool
		wrong string
	}{
		{good, me, true, ""},
		{link, me, true, ""},
		{os.DevNull, me, true, ""},
		{filepath.Join(dir, "none"), me, false, ""},
		{filepath.Join(good, "none"), me, false, ""},
		{good, other, true, own},
		{write("group", "", 0o620), me, true, "the file can be written by others (mode 0620), and it says which programs run as you: chmod go-w it, after a look at what it says"},
		{write("all", "", 0o602), me, true, "the file can be written by others (mode 0602), and it says which programs run as you: chmod go-w it, after a look at what it says"},
		{write("large", strings.Repeat("#", maxFileBytes+1), 0o600), me, true, "the file is larger than 1 MiB; a configuration is not"},
		{write("full", strings.Repeat("#", maxFileBytes), 0o600), me, true, ""},
		{dir, me, true, "this is a folder, not a file"},
		{pipe, me, true, "this is not a regular file"},
		{"/dev/zero", me, true, "this is not a regular file"},
	} {
		_, _, found, wrong := readFile(tc.path, tc.uid)
		if found != tc.found || wrong != tc.wrong {
			t.Errorf("%s for %d: found %v, %q; want %v, %q", tc.path, tc.uid, found, wrong, tc.found, tc.wrong)
		}
	}
}

// stranger is a file of somebody else's.
type stranger struct {
	fs.FileInfo
	uid uint32
}

func (s stranger) Sys() any { return &syscall.Stat_t{Uid: s.uid} }

func TestDistrust(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		owner  uint32
		uid    int
		refuse bool
	}{{1001, 1001, false}, {0, 1001, false}, {1002, 1001, true}, {1001, 0, true}, {0, 0, false}} {
		if got := distrust(stranger{info, tc.owner}, tc.uid); (got != "") != tc.refuse {
			t.Errorf("a file of %d for %d: %q", tc.owner, tc.uid, got)
		}
	}
}
