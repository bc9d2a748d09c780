package host

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The machine is told by the first file that holds an id, never by its name as
// long as there is one.
func TestMachine(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	const id = "3d1219c7c4c5404aaa1f6d2a48adfda4"
	good, other := put("good", id+"\n"), put("other", "00000000000000000000000000000001\n")
	for _, bad := range []string{put("empty", ""), put("fresh", "uninitialized\n"), put("short", "3d12"), filepath.Join(dir, "none")} {
		if got, want := machine([]string{bad, good}, "x"), machine([]string{good}, "y"); got != want {
			t.Errorf("%s is not passed over", bad)
		}
		if machine([]string{bad}, "x") == machine([]string{bad}, "y") {
			t.Errorf("with %s alone the host name does not count", bad)
		}
	}
	if machine([]string{good}, "x") == machine([]string{other}, "x") {
		t.Error("two machines of one name are the same")
	}
	if got := machine([]string{good}, "x"); got == id || len(got) != len(id) {
		t.Errorf("the id itself is given away: %s", got)
	}
}

func TestThis(t *testing.T) {
	id, err := This()
	check(t, err)
	name, err := os.Hostname()
	check(t, err)
	if len(id.Boot) != 36 || id.PIDs == 0 || id.Name != name || id.Machine == "" {
		t.Errorf("identity %+v", id)
	}
}

func TestParseStat(t *testing.T) {
	const line = "4242 (a (very) odd name) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20"
	got, err := parseStat([]byte(line))
	check(t, err)
	if want := (Stat{Parent: 1, Group: 2, Session: 3, Start: 777, State: 'S', Exit: -1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "garbage", "1 (x) S 1 2", "1 (x) SS 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20"} {
		if _, err := parseStat([]byte(bad)); !errors.Is(err, ErrStat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A process is told from a later one with its pid, and from one of another boot.
func TestProcessRuns(t *testing.T) {
	p, err := Self()
	check(t, err)
	if !p.Runs() {
		t.Fatalf("%+v does not run", p)
	}
	for _, q := range []Process{
		{PID: p.PID, Start: p.Start + 1, Boot: p.Boot},
		{PID: p.PID, Start: p.Start, Boot: "another"},
	} {
		if q.Runs() {
			t.Errorf("%+v runs", q)
		}
	}
	cmd := exec.Command("true")
	check(t, cmd.Run())
	if _, err := ReadStat(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that has ended: %v", err)
	}
}

// A process that has ended, and for which nobody has waited, does not run. In a
// container that is what a daemon is that was killed: the first process there may be
// one that waits for nobody.
func TestZombieDoesNotRun(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	boot, err := BootID()
	check(t, err)
	st, err := ReadStat(cmd.Process.Pid)
	check(t, err)
	p := Process{PID: st.PID, Start: st.Start, Boot: boot}
	if !p.Runs() {
		t.Fatalf("%+v does not run", p)
	}
	check(t, in.Close())
	// Until it has ended, and without taking its end from cmd.
	check(t, unix.Waitid(unix.P_PID, st.PID, nil, unix.WEXITED|unix.WNOWAIT, nil))
	if p.Runs() {
		t.Error("a zombie runs")
	}
	check(t, cmd.Wait())
}

func TestHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid := Holder(path); pid != 0 {
		t.Errorf("pid %d holds a file that is not there", pid)
	}
	f, err := Lock(path)
	check(t, err)
	link := path + ".link"
	check(t, os.Symlink(path, link))
	for _, name := range []string{path, link} {
		if pid := Holder(name); pid != os.Getpid() {
			t.Errorf("pid %d holds %s, and not %d", pid, name, os.Getpid())
		}
	}
	check(t, f.Close())
	if pid := Holder(path); pid != 0 {
		t.Errorf("pid %d holds what was let go", pid)
	}
}

func TestSharer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	check(t, os.WriteFile(path, nil, 0o600))
	f, err := os.Open(path)
	check(t, err)
	check(t, unix.Flock(int(f.Fd()), unix.LOCK_SH))
	if reads, writes := Sharer(path), Holder(path); reads != os.Getpid() || writes != 0 {
		t.Errorf("pid %d shares the lock and pid %d has it alone, want %d and none", reads, writes, os.Getpid())
	}
	check(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	if pid := Sharer(path); pid != 0 {
		t.Errorf("pid %d shares a lock that somebody has alone", pid)
	}
	check(t, f.Close())
}

func TestPeerOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	check(t, err)
	defer l.Close()
	c, err := net.Dial("unix", path)
	check(t, err)
	defer c.Close()
	p, err := PeerOf(c)
	check(t, err)
	if int(p.PID) != os.Getpid() || int(p.UID) != os.Getuid() {
		t.Errorf("peer %+v", p)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Lock(path)
	check(t, err)
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("a second one: %v", err)
	}
	check(t, f.Close())
	f, err = Lock(path)
	check(t, err)
	check(t, f.Close())
	link := path + ".link"
	check(t, os.Symlink(path, link))
	if _, err := Lock(link); err == nil {
		t.Error("a link was followed")
	}
}

// TestSuspended: one that Ctrl-Z stopped is told apart from one that runs, and still runs.
func TestSuspended(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // was killed
	}()
	boot, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	st, err := ReadStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := Process{PID: st.PID, Start: st.Start, Boot: boot}
	if p.Suspended() || !p.Runs() {
		t.Error("a process that runs is taken for one that does not")
	}
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.PID, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("waited: %v %v", status, err)
	}
	if !p.Suspended() || !p.Runs() {
		t.Error("a process that was stopped is not seen as such")
	}
	if p.Start++; p.Suspended() || p.Runs() {
		t.Error("another process with this pid is taken for it")
	}
}
