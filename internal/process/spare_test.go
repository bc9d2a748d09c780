package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// nobody is a user that has no processes: root has no limit of them.
const nobody = 54321

// A user who may have no more processes has a supervisor that ends tasks all the
// same. It says so of those that cannot start, and does not end itself.
func TestUserWithoutProcesses(t *testing.T) {
	if os.Getuid() == 0 {
		asNobody(t)
		return
	}
	p := newPlace(t)
	opts := p.options("q")
	opts.NoCgroups = true // then to end a task takes more
	d := p.daemon(t, opts)
	d.connected()
	var tasks []task.Task
	for seq := task.Seq(1); seq <= 60; seq++ {
		tasks = append(tasks, assigned(t, seq, sh("sleep 1000 & wait")))
	}
	running, late := tasks[:6], tasks[6:]
	d.launch(running...)
	for _, tk := range running {
		d.await(tk.Ref(), task.EventStarted)
	}
	pid := p.supervisorPid(t)
	var lim unix.Rlimit
	must(t, unix.Prlimit(pid, unix.RLIMIT_NPROC, nil, &lim))
	lim.Cur = 1
	must(t, unix.Prlimit(pid, unix.RLIMIT_NPROC, &lim, nil))
	d.launch(late...)
	for _, tk := range late {
		if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventNotStarted || ev.Class != task.CouldNotStart {
			t.Fatalf("event %+v", ev)
		}
	}
	for _, tk := range running {
		must(t, d.Stop(t.Context(), tk))
	}
	for _, tk := range running {
		d.end(tk.Ref())
	}
	if now := p.supervisorPid(t); now != pid {
		t.Errorf("the supervisor (pid %d) has ended; now it is %d", pid, now)
	}
}

// asNobody runs the test as a user of its own, whose binary and directory it can
// reach.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nobody")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	exe := filepath.Join(dir, "test")
	must(t, os.WriteFile(exe, self, 0o755))
	must(t, os.Chmod(dir, 0o777)) //nolint:gosec // for another user, and gone with the test
	cmd := exec.Command(exe, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as user %d: %v\n%s", nobody, err, out)
	}
}
