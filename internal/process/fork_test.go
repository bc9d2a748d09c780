package process

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// One task goes without a cgroup when the kernel lacks something for a moment,
// and all do when it says that it has no such thing.
func TestRefusedCgroup(t *testing.T) {
	for _, c := range []struct {
		err      error
		disabled bool
	}{
		{unix.ENOSYS, true}, {unix.EPERM, true}, {unix.EOPNOTSUPP, true}, {unix.EBUSY, true}, {unix.ENODEV, true},
		{unix.EAGAIN, false}, {unix.ENOMEM, false}, {unix.EMFILE, false},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			refuseCgroups(t, c.err)
			s := bareSupervisor(t)
			path := filepath.Join(t.TempDir(), "1")
			fakeCgroup(t, path)
			s.cgroups = &cgroups{dir: filepath.Dir(path)}
			g, err := s.cgroups.open(path)
			must(t, err)
			s.cgroups.free = []*cgroup{g}
			s.null, err = os.Open(os.DevNull)
			must(t, err)
			defer s.null.Close()
			p := proc{log: int(s.null.Fd()), pidfd: -1}
			must(t, s.exec(&p, "/bin/true", []string{"true"}, nil, "/"))
			defer closeFD(&p.pidfd)
			must(t, wait(p.pid, &reaped{}))
			if p.cgroup != nil || s.cgroups.disabled != c.disabled {
				t.Errorf("cgroup %v, disabled %v", p.cgroup, s.cgroups.disabled)
			}
			for _, g := range s.cgroups.free {
				g.remove()
			}
		})
	}
}

// refuseCgroups is a kernel that starts nothing in a cgroup.
func refuseCgroups(t *testing.T, err error) {
	t.Helper()
	old := forkExec
	t.Cleanup(func() { forkExec = old })
	forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		if attr.Sys.UseCgroupFD {
			return 0, err
		}
		return old(path, argv, attr)
	}
}

// TestOutputOfAFormerQueue: an attempt has its output to itself, also where the queue that
// was there before a restoration has made one of the same number.
func TestOutputOfAFormerQueue(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "1-1.log")
	for _, text := range []string{"first", "second"} {
		fd, err := beginLog(path)
		must(t, err)
		_, err = unix.Write(fd, []byte(text))
		must(t, err)
		must(t, unix.Close(fd))
		if got, err := os.ReadFile(path); string(got) != text {
			t.Errorf("the output is %q, %v; want %q", got, err, text)
		}
	}
	if got, err := os.ReadFile(path + ".former"); string(got) != "first" {
		t.Errorf("the output of the former queue is %q, %v", got, err)
	}
}
