package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const nobody = 65534

// errNone is what a command line says where no daemon runs.
var errNone = &task.Error{Code: task.CodeUnavailable, Message: "no daemon is running"}

// patientIn is a set-up in which nothing runs, with its workspace and home in dir, as
// far as the variables do not say otherwise.
func patientIn(dir, home string, environ ...string) (Patient, error) {
	p := Patient{UID: os.Geteuid(), Version: build, Now: time.Now, Environ: append([]string{"HOME=" + home, "XDG_RUNTIME_DIR=" + dir}, environ...)}
	x := examination{Patient: p}
	cfg, err := config.Load(config.Given{Cwd: dir, Lookup: x.getenv})
	p.Load = func() Loaded { return Loaded{Config: cfg, Usable: true} }
	p.Orchestrator = os.Executable
	p.Start = func(config.Config) string { return "dspy-agent start" }
	p.Owner = func(string) (*Owner, error) { return nil, nil } //nolint:nilnil // nobody is no error
	p.Holder = func(string) int { return 0 }
	p.DropFolder = func(string) error { return nil }
	p.Database = func(context.Context, string) ([]string, bool, error) { return nil, true, nil }
	p.Rejected = func(string) (int, error) { return 0, nil }
	p.Health = func(context.Context, config.Config) (Health, error) { return Health{}, errNone }
	return p, err
}

func patient(t *testing.T, environ ...string) Patient {
	t.Helper()
	dir := shortDir(t)
	p, err := patientIn(dir, dir, environ...)
	must(t, err)
	return p
}

// shortDir is a folder whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "doc")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made makes one check, and fills in its name.
func made(name string, p Patient) []Finding {
	for _, c := range checks {
		if c.name == name {
			return c.within(context.Background(), newExamination(context.Background(), p))
		}
	}
	return []Finding{{Name: name, Status: Problem, Text: "there is no such check"}}
}

// want makes a check and looks for a finding with that status and these words in its
// text and mend.
func want(t *testing.T, name string, p Patient, status Status, words ...string) {
	t.Helper()
	wantIn(t, made(name, p), status, words...)
}

func wantIn(t *testing.T, found []Finding, status Status, words ...string) {
	t.Helper()
	for _, f := range found {
		if f.Status == status && containsAll(f.Text+" | "+f.Mend, words) {
			return
		}
	}
	t.Errorf("no %s that says %q among\n%s", status, words, textOf(found))
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func textOf(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\n", f.Status, f.Name, f.Text, f.Mend)
	}
	return b.String()
}

// ourselves is an owner that runs: this process.
func ourselves(t *testing.T) *Owner {
	t.Helper()
	return ownerOf(t, os.Getpid())
}

func ownerOf(t *testing.T, pid int) *Owner {
	t.Helper()
	st, err := host.ReadStat(pid)
	must(t, err)
	boot, err := host.BootID()
	must(t, err)
	name, err := os.Hostname()
	must(t, err)
	return &Owner{Host: name, BootID: boot, PID: pid, StartTicks: st.Start, StartedAt: time.Now()}
}

func (p Patient) ownedBy(o *Owner) Patient {
	p.Owner = func(string) (*Owner, error) { return o, nil }
	return p
}

func (p Patient) healthy(h Health) Patient {
	p.Health = func(context.Context, config.Config) (Health, error) { return h, nil }
	return p
}

// queueDir makes the folder of the queue.
func (p Patient) queueDir(t *testing.T) string {
	t.Helper()
	dir := p.Load().Config.QueueDir
	must(t, os.MkdirAll(dir, 0o700))
	return dir
}

// role returns a command that plays a role in a copy of this program: where go test
// put it, another user cannot run it.
func role(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o755)) //nolint:gosec // for another user
	exe := filepath.Join(dir, "other")
	must(t, os.WriteFile(exe, self, 0o755))                                      //nolint:gosec // as above
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), exe, args...) // it ends with its input, in the cleanup
	cmd.Env, cmd.Dir, cmd.Stderr = []string{roleVar + "=" + name, "GORACE=atexit_sleep_ms=0"}, "/", os.Stderr
	return cmd
}

// inScene makes a check in a scene of its own.
func inScene(t *testing.T, scene, check string, attr *syscall.SysProcAttr) []Finding {
	t.Helper()
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o777)) //nolint:gosec // for another user
	cmd := role(t, "scene", scene, check, dir)
	cmd.SysProcAttr = attr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scene %s: %v", scene, err)
	}
	var found []Finding
	must(t, json.Unmarshal(out, &found))
	return found
}

// ownMounts lets a child mount what it likes, seen by nobody else. Who is not root
// needs a user namespace for it.
func ownMounts() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// asNobody runs a child without privileges. Who has none needs none taken.
func asNobody() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// listener is a child that listens somewhere until it is stopped.
type listener struct {
	pid  int
	addr string
}

func listen(t *testing.T, network, at string, attr *syscall.SysProcAttr) listener {
	t.Helper()
	cmd := role(t, "listen", network, at)
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	return listener{pid: cmd.Process.Pid, addr: strings.TrimSpace(line)}
}

// stop stops a process and returns when it is.
func stop(t *testing.T, pid int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("%v, %v", ws, err)
	}
}

// scenes are what children set up before they make a check in the folder.
var scenes = map[string]func(dir string) error{
	"tmpfs":       func(dir string) error { return mountTmpfs(dir, "size=4g") },
	"full":        func(dir string) error { return errors.Join(mountTmpfs(dir, "size=64k"), fill(dir)) },
	"few files":   func(dir string) error { return mountTmpfs(dir, "size=4g,nr_inodes=50") },
	"a few files": func(dir string) error { return mountTmpfs(dir, "size=4g,nr_inodes=5000") },
	"little room": func(dir string) error { return mountTmpfs(dir, "size=500m") },
	"no files":    func(dir string) error { return errors.Join(mountTmpfs(dir, "nr_inodes=2"), os.Mkdir(dir+"/x", 0o700)) },
	"read-only": func(dir string) error {
		return errors.Join(mountTmpfs(dir, ""), syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	},
	"overlay":           mountOverlay,
	"unwritable":        func(dir string) error { return errors.Join(os.Mkdir(dir+"/logs", 0o500), os.Chmod(dir+"/logs", 0o500)) }, //nolint:gosec // a folder
	"closed engine":     closedEngine,
	"read-only cgroups": readOnlyCgroups,
	"some open":         func(string) error { return limit(syscall.RLIMIT_NOFILE, 512) },
	"few open":          func(string) error { return limit(syscall.RLIMIT_NOFILE, 100) },
	"no processes":      func(string) error { return limit(rlimitNproc, 1) },
	"many allowed":      func(string) error { return limit(rlimitNproc, 5000) },
}

const rlimitNproc = 6 // RLIMIT_NPROC, which package syscall does not name

func limit(which int, n uint64) error {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(which, &lim); err != nil {
		return err
	}
	n = min(n, lim.Max)
	return syscall.Setrlimit(which, &syscall.Rlimit{Cur: n, Max: n})
}

func mountTmpfs(dir, options string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of one's own take root, or user namespaces: %w", err)
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, options)
}

func mountOverlay(dir string) error {
	if err := mountTmpfs(dir, ""); err != nil {
		return err
	}
	for _, sub := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	return syscall.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir))
}

// readOnlyCgroups puts a system in the folder whose cgroups cannot be written.
func readOnlyCgroups(dir string) error {
	root := systemIn(dir)
	mount := filepath.Join(root, "sys/fs/cgroup")
	if err := os.MkdirAll(mount, 0o700); err != nil {
		return err
	}
	if err := mountTmpfs(mount, ""); err != nil {
		return err
	}
	if err := writeCgroupTree(root, nil); err != nil {
		return err
	}
	return syscall.Mount("", mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}

// closedEngine puts a system in the folder whose container engine takes nobody.
func closedEngine(dir string) error {
	at := filepath.Join(systemIn(dir), "var/run/docker.sock")
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	if _, err := net.Listen("unix", at); err != nil { // until this process ends
		return err
	}
	return os.Chmod(at, 0)
}

// systemIn is what stands for / in a scene that has one of its own.
func systemIn(dir string) string { return filepath.Join(dir, "root") }

// fill leaves no room.
func fill(dir string) error {
	err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600)
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return fmt.Errorf("the file system is not full: %w", err)
}
