package doctor

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClock(t *testing.T) {
	p := patient(t)
	now := time.Now()
	found := made("clock", p) // depends on the machine, but is no problem
	if len(found) != 1 || found[0].Status != OK && found[0].Status != Note {
		t.Errorf("%s", textOf(found))
	}
	p.Now = func() time.Time { return time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC) }
	want(t, "clock", p, Problem, "it was never set", "date")

	p.Now = func() time.Time { return now }
	dir := p.queueDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("q.1.db\n"), 0o600))
	db := filepath.Join(dir, "q.1.db")
	must(t, os.WriteFile(db, nil, 0o600))
	must(t, os.Chtimes(db, now, now.Add(-time.Hour)))
	if found := made("clock", p); found[0].Status == Problem {
		t.Errorf("%s", textOf(found))
	}
	must(t, os.Chtimes(db, now, now.Add(time.Hour)))
	want(t, "clock", p, Problem, "the queue was last changed 1h0m0s later", "set the clock")
}

func TestClockThatWasSet(t *testing.T) {
	p := patient(t)
	o := ourselves(t)
	for _, tc := range []struct {
		started time.Duration // before now; the process began a moment ago
		words   string
	}{
		{time.Hour, "set forward by about "}, // it wrote down a time that is an hour ago
		{-time.Hour, "set back by about "},   // one that is still to come
		{0, ""}, {time.Second, ""},
	} {
		o.StartedAt = time.Now().Add(-tc.started)
		found := setSince(o, p.Now())
		if tc.words == "" {
			if found != nil {
				t.Errorf("%s: %s", tc.started, textOf(found))
			}
			continue
		}
		wantIn(t, found, Note, tc.words)
	}
}

func TestOpenFiles(t *testing.T) {
	wantIn(t, inScene(t, "few open", "open_files", nil), Problem, "100 files may be open", "ulimit -Hn")
	wantIn(t, inScene(t, "some open", "open_files", nil), Warning, "512 files may be open")
	var lim unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Max >= 1024 {
		want(t, "open_files", patient(t), OK, "files may be open")
	}
	if got := numberText(unix.RLIM_INFINITY); got != "any number of" {
		t.Errorf("no limit is %q", got)
	}
}

func TestProcesses(t *testing.T) {
	wantIn(t, inScene(t, "no processes", "processes", asNobody()), Problem, "0 more processes and threads by the limit of 1 for you (ulimit -u)", "raised")
	wantIn(t, inScene(t, "many allowed", "processes", asNobody()), OK, "for you (ulimit -u)")
	if n := threadsOf(os.Geteuid()); n < 2 {
		t.Errorf("%d threads are ours", n)
	}
}

// cgroupTree is a root with the cgroup of this process in it, two deep.
func cgroupTree(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	must(t, writeCgroupTree(root, files))
	return root
}

func writeCgroupTree(root string, files map[string]string) error {
	all := map[string]string{
		"proc/" + strconv.Itoa(os.Getpid()) + "/cgroup": "0::/user/work\n",
		"proc/self/mountinfo":                           "22 1 0:21 / /proc rw - proc proc rw\n30 22 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n",
		"sys/fs/cgroup/user/work/cgroup.procs":          "",
	}
	for path, text := range files {
		all["sys/fs/cgroup/"+path] = text
	}
	for path, text := range all {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as on a system
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func TestProcessesOfACgroup(t *testing.T) {
	p := patient(t)
	p.UID = 0 // whom RLIMIT_NPROC does not hold
	p.Root = cgroupTree(t, nil)
	want(t, "processes", p, OK, "nothing bounds")
	p.Root = cgroupTree(t, map[string]string{"user/pids.max": "500\n", "user/pids.current": "100\n", "user/work/pids.max": "max\n", "user/work/pids.current": "3\n"})
	want(t, "processes", p, OK, "400 more processes", "/user/pids.max")
	p.Root = cgroupTree(t, map[string]string{"user/pids.max": "500\n", "user/pids.current": "450\n"})
	want(t, "processes", p, Warning, "50 more processes")
	p.Root = cgroupTree(t, map[string]string{"user/work/pids.max": "5\n", "user/work/pids.current": "5\n"})
	want(t, "processes", p, Problem, "0 more processes")
}

func TestThreadsIn(t *testing.T) {
	const line = "4242 (a (very) odd name) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 0 777 20"
	if n := threadsIn(line); n != 17 {
		t.Errorf("%d threads", n)
	}
	self, err := os.ReadFile("/proc/self/stat")
	must(t, err)
	dirs, err := os.ReadDir("/proc/self/task")
	must(t, err)
	if n := threadsIn(string(self)); n == 0 || n > uint64(len(dirs))+10 {
		t.Errorf("%d threads, and %d folders of threads", n, len(dirs))
	}
	if threadsIn("garbage") != 0 {
		t.Error("garbage has threads")
	}
}

func TestMemoryAndCPUs(t *testing.T) {
	p := patient(t)
	for _, name := range []string{"memory", "cpus"} {
		if found := made(name, p); len(found) != 1 || found[0].Status == Problem {
			t.Errorf("%s", textOf(found))
		}
	}
	wantIn(t, judgeMemory(8<<30, 8<<30), OK, "8.0 GiB for all tasks together")
	wantIn(t, judgeMemory(4<<30, 8<<30), Note, "4.0 GiB", "memory.max", "the machine has 8.0 GiB")
	wantIn(t, judgeMemory(100<<20, 8<<30), Warning, "100 MiB", "have the limit raised")
	wantIn(t, judgeCPUs(4, 4), OK, "4 CPUs")
	wantIn(t, judgeCPUs(2, 64), Note, "2 CPUs", "of the 64", "cpu.max")
	if n, ok := readRange("/sys/devices/system/cpu/online"); !ok || n < 1 {
		t.Errorf("%d CPUs", n)
	}
	path := filepath.Join(t.TempDir(), "list")
	must(t, os.WriteFile(path, []byte("0-3,8,10-11\n"), 0o600))
	if n, ok := readRange(path); !ok || n != 7 {
		t.Errorf("%d, %v", n, ok)
	}
}

func TestKernel(t *testing.T) {
	found := made("kernel", patient(t))
	if len(found) != 1 || found[0].Status == Problem || !containsAll(found[0].Text, []string{"Linux "}) {
		t.Errorf("%s", textOf(found))
	}
}

func TestCgroup(t *testing.T) {
	p := patient(t)
	p.Root = t.TempDir()
	want(t, "cgroup", p, Note, "no cgroup v2 is to be seen here", "can outlive its task")
	p.Root = cgroupTree(t, nil)
	want(t, "cgroup", p, OK, "each task can have a cgroup of its own, below "+p.Root+"/sys/fs/cgroup/user/work")
	wantIn(t, inScene(t, "read-only cgroups", "cgroup", ownMounts()), Note, "this shell's cgroup", "is not delegated to us", "Delegate=yes")
}

func TestDocker(t *testing.T) {
	dir := shortDir(t)
	at := filepath.Join(dir, "d.sock")
	p := patient(t, "DOCKER_HOST=unix://"+at)
	p.Root = dir // where no other engine is
	want(t, "docker", p, Note, "no container engine answers at unix://"+at, "apt install")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	engine := http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"ServerVersion": "20.10.24", "CgroupDriver": "systemd"}`)
	})}
	done := make(chan error, 1)
	go func() { done <- engine.Serve(l) }()
	want(t, "docker", p, OK, "answers at unix://"+at+": version 20.10.24, API 1.41")
	must(t, os.MkdirAll(filepath.Join(dir, "proc/driver/nvidia"), 0o755)) //nolint:gosec // as on a system
	must(t, os.WriteFile(filepath.Join(dir, "proc/driver/nvidia/version"), nil, 0o600))
	wantIn(t, made("docker", p)[1:], Note, "its container toolkit is not", "systemctl restart docker")
	must(t, os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755)) //nolint:gosec // the same
	must(t, os.WriteFile(filepath.Join(dir, "usr/bin/nvidia-container-runtime-hook"), nil, 0o600))
	wantIn(t, made("docker", p)[1:], Note, "containers lose their GPUs when somebody runs systemctl daemon-reload", "create-dev-char-symlinks")
	must(t, os.MkdirAll(filepath.Join(dir, "dev/char"), 0o755)) //nolint:gosec // the same
	must(t, os.Symlink("../nvidiactl", filepath.Join(dir, "dev/char/195:255")))
	must(t, os.WriteFile(filepath.Join(dir, "dev/nvidiactl"), nil, 0o600))
	want(t, "docker", p, OK, "answers at unix://"+at)
	must(t, engine.Close())
	<-done
	want(t, "docker", p, Note, "no container engine answers at unix://"+at)
	p = patient(t, "DOCKER_HOST=ssh://host")
	p.Root = dir
	want(t, "docker", p, Warning, "DOCKER_HOST is \"ssh://host\"", "set DOCKER_HOST")
	wantIn(t, inScene(t, "closed engine", "docker", asNobody()), Note, "you may not use it", "group of that socket")
}

func TestSlurmAndGPU(t *testing.T) {
	dir := t.TempDir()
	p := patient(t, "PATH="+dir)
	p.Root = dir
	want(t, "slurm", p, Note, "Slurm is not here, and not needed")
	want(t, "gpu", p, Note, "is not here, and not needed for CPU tasks")
	for _, name := range []string{"sbatch", "nvidia-smi"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o700)) //nolint:gosec // a program
	}
	must(t, os.WriteFile(filepath.Join(dir, "scontrol"), []byte("#!/bin/sh\necho 'scontrol: fatal: Could not establish a configuration source' >&2; exit 1\n"), 0o700)) //nolint:gosec // a program
	want(t, "slurm", p, Note, "Slurm is here ("+dir+"/sbatch) without a cluster", "SLURM_CONF")
	must(t, os.WriteFile(filepath.Join(dir, "scontrol"), []byte("#!/bin/sh\necho 'slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)' >&2; exit 1\n"), 0o700)) //nolint:gosec // a program
	want(t, "slurm", p, Warning, "does not answer", "sinfo")
	must(t, os.WriteFile(filepath.Join(dir, "scontrol"), []byte("#!/bin/sh\necho 'ClusterName = c1'; echo 'SLURM_VERSION = 23.11.4'\n"), 0o700)) //nolint:gosec // a program
	want(t, "slurm", p, OK, "Slurm 23.11.4 answers, cluster c1", "")
	want(t, "gpu", p, Note, "driver is not loaded")
	must(t, os.MkdirAll(filepath.Join(dir, "proc/driver/nvidia"), 0o755)) //nolint:gosec // as on a system
	must(t, os.WriteFile(filepath.Join(dir, "proc/driver/nvidia/version"), []byte("NVRM version: NVIDIA UNIX x86_64  580.65\nGCC\n"), 0o600))
	want(t, "gpu", p, Note, "NVIDIA's driver is here (NVRM version: NVIDIA UNIX x86_64 580.65), and gpu-probe is not", "put gpu-probe beside dspy-agent")
}
