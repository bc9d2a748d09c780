package mounts

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

const sample = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,relatime shared:5 - proc proc rw
40 22 0:40 / /home rw,relatime shared:7 master:1 - nfs4 files:/export/home rw,vers=4.2
41 40 0:41 / /home/ann/scratch rw - lustre 10.0.0.1@o2ib:/scratch rw
42 22 0:42 / /mnt/a\040b rw - fuse.sshfs me@there:/x\134y rw
43 22 0:43 / /over rw - xfs /dev/sdb rw
44 43 0:44 / /over rw - nfs other:/over rw
45 22 0:45 / /auto rw - autofs systemd-1 rw
46 22 0:46 / /ram rw - tmpfs tmpfs rw
`

func table(t *testing.T) Table {
	t.Helper()
	out, err := Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFind(t *testing.T) {
	links := map[string]string{
		"/data": "/home/ann", "/rel": "home/../over/x", "/loop": "/loop", "/up": "ram/../home",
		"/twice": "/data/scratch", "/dots": "../../home",
	}
	readlink := func(path string) (string, error) {
		if strings.HasPrefix(path+"/", "/home/") || strings.HasPrefix(path, "/over") || strings.HasPrefix(path, "/auto") {
			t.Errorf("%s is touched", path)
		}
		if to, ok := links[path]; ok {
			return to, nil
		}
		return "", fs.ErrInvalid
	}
	for path, want := range map[string]string{
		"/":                      "ext4 (/dev/vda, mounted on /)",
		"/etc/x":                 "ext4 (/dev/vda, mounted on /)",
		"/homer":                 "ext4 (/dev/vda, mounted on /)",
		"/home":                  "NFS (files:/export/home, mounted on /home)",
		"/home/ann/queue":        "NFS (files:/export/home, mounted on /home)",
		"/home/ann/scratch/q":    "Lustre (10.0.0.1@o2ib:/scratch, mounted on /home/ann/scratch)",
		"/home/ann/scratch/../q": "NFS (files:/export/home, mounted on /home)",
		"/mnt/a b/c":             `FUSE (sshfs) (me@there:/x\y, mounted on /mnt/a b)`,
		"/over/x":                "NFS (other:/over, mounted on /over)",
		"/auto/x":                "autofs (systemd-1, mounted on /auto)",
		"/ram/x":                 "tmpfs (mounted on /ram)",
		"/data/q":                "NFS (files:/export/home, mounted on /home)",
		"/data/scratch/q":        "Lustre (10.0.0.1@o2ib:/scratch, mounted on /home/ann/scratch)",
		"/twice":                 "Lustre (10.0.0.1@o2ib:/scratch, mounted on /home/ann/scratch)",
		"/rel/q":                 "NFS (other:/over, mounted on /over)",
		"/up":                    "NFS (files:/export/home, mounted on /home)",
		"/dots/a":                "NFS (files:/export/home, mounted on /home)",
	} {
		got, err := table(t).Find(path, readlink)
		if err != nil || got.String() != want {
			t.Errorf("%s is on %s (%v), want %s", path, got, err, want)
		}
	}
	if m, err := table(t).Find("/loop/x", readlink); err == nil {
		t.Errorf("a link that leads to itself is on %s", m)
	}
	if m, err := (Table{}).Find("/x", readlink); !errors.Is(err, ErrTable) {
		t.Errorf("without a root it is on %s (%v)", m, err)
	}
}

// What is not known to be local is not trusted.
func TestLocal(t *testing.T) {
	for kind, want := range map[string]bool{
		"ext4": true, "tmpfs": true, "overlay": true, "zfs": true,
		"nfs": false, "nfs4": false, "fuse": false, "fuse.sshfs": false, "fuseblk": false, "9p": false, "somethingnew": false, "": false, "autofs": false,
	} {
		if got := (Mount{Type: kind}).Local(); got != want {
			t.Errorf("%s is local: %v", kind, got)
		}
	}
	if (Mount{Type: "somethingnew"}).Kind() != "somethingnew" {
		t.Error("an unknown kind has no name")
	}
}

// What the kernel says of this machine can be read, and agrees with what is there.
func TestOf(t *testing.T) {
	m, err := Of("/proc/self/status")
	if err != nil || m.Type != "proc" || m.Point != "/proc" {
		t.Errorf("/proc is on %+v (%v)", m, err)
	}
	dir := t.TempDir()
	link := dir + "/link"
	if err := os.Symlink("/proc", link); err != nil {
		t.Fatal(err)
	}
	if m, err := Of(link + "/self"); err != nil || m.Type != "proc" {
		t.Errorf("a link to /proc is on %+v (%v)", m, err)
	}
	if _, err := Of(dir + "/not/there/yet"); err != nil {
		t.Error(err)
	}
}

// FuzzTable: whatever the table says, it is read or refused, and what is found is a
// line of it that leads to the path.
func FuzzTable(f *testing.F) {
	f.Add(sample, "/home/ann/scratch/x", "/home")
	f.Add("1 1 0:0 / / rw - a b", "/x/../..", "..")
	f.Add("1 1 0:0 / /\\057 rw - a b", "//", "/")
	f.Fuzz(func(t *testing.T, text, path, link string) {
		table, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrTable) {
				t.Fatal(err)
			}
			return
		}
		if len(table) != strings.Count(text, "\n") && len(table) != strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts of %q", len(table), text)
		}
		reads := 0
		m, err := table.Find("/"+path, func(string) (string, error) {
			if reads++; reads%2 == 0 {
				return link, nil
			}
			return "", fs.ErrInvalid
		})
		if err == nil && !slices.Contains(table, m) {
			t.Errorf("%+v is no line of the table", m)
		}
	})
}
