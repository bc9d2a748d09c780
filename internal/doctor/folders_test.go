package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

func TestWorkspace(t *testing.T) {
	p := patient(t)
	want(t, "workspace", p, OK, "can be written")
	entries, err := os.ReadDir(p.Load().Config.Workspace)
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("the check left %v", entries)
	}

	slow := p
	slow.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	want(t, "workspace", slow, Warning, "clock of the file server", "1h0m0s")

	dir := p.queueDir(t)
	must(t, os.Chmod(dir, 0o770)) //nolint:gosec // that is the point
	want(t, "workspace", p, Warning, "others can write the queue", "chmod go-w "+dir)
	must(t, os.Chmod(dir, 0o700)) //nolint:gosec // a folder
	other := p
	other.UID++
	want(t, "workspace", other, Warning, "belongs to uid", "sudo -u")

	must(t, os.RemoveAll(p.Load().Config.Workspace))
	want(t, "workspace", p, Problem, "is not a folder", "make it")
}

func TestWorkspaceThatCannotBeWritten(t *testing.T) {
	wantIn(t, inScene(t, "unwritable", "workspace", asNobody()), Problem, "cannot write in", "permission denied")
	wantIn(t, inScene(t, "read-only", "workspace", ownMounts()), Problem, "mounted read-only", "ENV_QUEUE_DIR")
	wantIn(t, inScene(t, "no files", "workspace", ownMounts()), Problem, "no room for one more file")
}

func TestFileSystem(t *testing.T) {
	found := made("file_system", patient(t))
	if len(found) != 1 || !containsAll(found[0].Text, []string{"the queue in /tmp/", "locks and mapped memory work there"}) {
		t.Errorf("%s", textOf(found))
	}
	wantIn(t, inScene(t, "tmpfs", "file_system", ownMounts()), Warning, "in memory (tmpfs)", "gone when the machine is restarted", "locks and mapped memory work")
	wantIn(t, inScene(t, "overlay", "file_system", ownMounts()), Note, "overlay", "volume")
	wantIn(t, inScene(t, "read-only", "file_system", ownMounts()), Problem, "mounted read-only")
	wantIn(t, inScene(t, "full", "file_system", ownMounts()), Warning, "tmpfs") // and no signal from memory that has no page
}

// TestKindsOfFileSystems is about those that a test cannot mount.
func TestKindsOfFileSystems(t *testing.T) {
	for kind, want := range map[string]Status{"nfs4": Note, "lustre": Note, "cifs": Warning, "fuse.sshfs": Warning, "ext4": OK, "xfs": OK, "never heard of": Warning} {
		if f := judgeKind("/q", mounts.Mount{Type: kind, Point: "/"}); f[0].Status != want {
			t.Errorf("%s: %s", kind, textOf(f))
		}
	}
	wantIn(t, judgeKind("/q", mounts.Mount{Point: "/q", Type: "nfs", Source: "files:/home"}), Note, "NFS (files:/home, mounted on /q)", "one of them has the queue at a time", "take turns")
	wantIn(t, judgeKind("/q", mounts.Mount{Point: "/q", Type: "fuse.sshfs", Source: "far:/home"}), Warning, "FUSE (sshfs)", "one host at a time")
}

func TestDropFolder(t *testing.T) {
	want(t, "drop_folder", patient(t), OK, "nobody else can write")
	p := patient(t)
	p.DropFolder = func(string) error { return errors.New("others can write to /q/pending; run: chmod go-w /q/pending") }
	want(t, "drop_folder", p, Problem, "no file of the drop folder is taken", "chmod go-w /q/pending")
	p = patient(t)
	p.Rejected = func(string) (int, error) { return 2, nil }
	want(t, "drop_folder", p, Note, "2 files of the drop folder cannot be tasks", "/rejected", ".error")
}

func TestDatabase(t *testing.T) {
	want(t, "database", patient(t), OK, "nothing is wrong")
	p := patient(t)
	p.Database = func(context.Context, string) ([]string, bool, error) {
		return []string{"page 7 is damaged", "and more"}, true, nil
	}
	want(t, "database", p, Problem, "page 7 is damaged (the first of 2 findings)", "queue repair saves the rest")
	p.Database = func(context.Context, string) ([]string, bool, error) {
		return nil, false, errors.New("CURRENT is not there; write its name into it")
	}
	want(t, "database", p, Problem, "CURRENT is not there")
}

// TestTriesCatch: what is tried would be seen to fail.
func TestTriesCatch(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "x")
	must(t, err)
	defer f.Close()
	must(t, tryMap(f))
	must(t, tryLock(f))
	other, err := os.Open(f.Name()) // holds the lock, as another process would
	must(t, err)
	defer other.Close()
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_UN))
	must(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	if err := tryLock(f); err == nil {
		t.Error("a lock that is not granted is none")
	}
	closed, err := os.CreateTemp(t.TempDir(), "x")
	must(t, err)
	must(t, closed.Close())
	if err := tryMap(closed); err == nil {
		t.Error("a file that cannot be written can be mapped")
	}
}

func TestSpace(t *testing.T) {
	wantIn(t, inScene(t, "tmpfs", "space", ownMounts()), OK, "4.0 GiB left", "by the file system")
	wantIn(t, inScene(t, "full", "space", ownMounts()), Problem, "0 B left", "make room")
	wantIn(t, inScene(t, "little room", "space", ownMounts()), Warning, "500 MiB left")
	wantIn(t, inScene(t, "few files", "space", ownMounts()), Problem, "more files", "df -i")
	wantIn(t, inScene(t, "a few files", "space", ownMounts()), Warning, "more files", "df -i")
}

func TestQuota(t *testing.T) {
	disk := left{bytes: 10 << 30, files: 1e6, bytesBy: "the file system", filesBy: "the file system"}
	for _, tc := range []struct {
		q      quota
		status Status
		words  []string
	}{
		{quota{}, OK, []string{"10 GiB left", "by the file system"}},
		{quota{blockHard: 1 << 20, space: 1<<30 - 4096}, OK, []string{"by the file system"}}, // not valid
		{quota{valid: validBlocks, blockHard: 20 << 20}, OK, []string{"by the file system"}},
		{quota{valid: validBlocks, blockHard: 4 << 20, space: 1 << 30}, OK, []string{"3.0 GiB left", "by the user's quota"}},
		{quota{valid: validBlocks, blockHard: 1 << 20, space: 1<<30 - 4096}, Problem, []string{"4.0 KiB left", "by the user's quota"}},
		{quota{valid: validBlocks, blockHard: 1 << 20, space: 2 << 30}, Problem, []string{"0 B left"}}, // in its grace
		{quota{valid: validFiles, fileHard: 1000, files: 950}, Problem, []string{"only 50 more files", "by the user's quota"}},
	} {
		wantIn(t, disk.least(tc.q.left()).judge("/q"), tc.status, tc.words...)
	}
	if l := quotaOf("/proc", os.Getuid()); l.bytes != endless || l.files != endless {
		t.Errorf("a quota on /proc: %+v", l)
	}
}

func TestRuntimeDir(t *testing.T) {
	p := patient(t)
	cfg := p.Load().Config
	dir := filepath.Join(cfg.RuntimeDir, "dspy-agent")
	want(t, "runtime_dir", p, OK, dir+" is made when the daemon starts")
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the check made it")
	}
	must(t, os.Mkdir(dir, 0o700))
	want(t, "runtime_dir", p, OK, "is ours alone")
	must(t, os.Chmod(dir, 0o755)) //nolint:gosec // that is the point
	want(t, "runtime_dir", p, Problem, "is open to others", "chmod 700 "+dir)
	must(t, os.Remove(dir))
	must(t, os.Symlink("/tmp", dir))
	want(t, "runtime_dir", p, Problem, "symbolic link")

	o := ourselves(t)
	o.Socket = "/tmp/elsewhere/x.sock"
	want(t, "runtime_dir", p.ownedBy(o), Note, "another runtime directory", "/tmp/elsewhere")

	gone := patient(t, "XDG_RUNTIME_DIR=/run/gone")
	want(t, "runtime_dir", gone, Warning, "XDG_RUNTIME_DIR is /run/gone, which is not a folder", "log in anew")
}

func TestLogin(t *testing.T) {
	p := patient(t)
	p.UID = 4242424 // whose name is its number
	p.Root = t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(p.Root, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755)) //nolint:gosec // as on a system
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	want(t, "login", p, OK, "no systemd here")
	put("run/systemd/system/x", "")
	want(t, "login", p, Note, "goes on after logout", "loginctl enable-linger")

	put("usr/lib/systemd/logind.conf", "[Login]\nKillUserProcesses=yes\n")
	want(t, "login", p, Problem, "ends everything of yours at logout", "loginctl enable-linger")
	put("etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=yes\n") // takes the place of the other
	want(t, "login", p, Note, "goes on")
	put("usr/lib/systemd/logind.conf.d/20-kill.conf", "KillUserProcesses = on\n")
	put("etc/systemd/logind.conf.d/10-keep.conf", "KillUserProcesses=no\n") // before it by name
	want(t, "login", p, Problem, "logout")
	put("etc/systemd/logind.conf.d/30-who.conf", "KillExcludeUsers=alice 4242424\n")
	want(t, "login", p, Note, "goes on")
	put("etc/systemd/logind.conf.d/40-who.conf", "KillExcludeUsers=\nKillOnlyUsers=bob\n")
	want(t, "login", p, Note, "goes on")
	put("etc/systemd/logind.conf.d/50-who.conf", "KillOnlyUsers=4242424\n")
	want(t, "login", p, Problem, "logout")
	put("var/lib/systemd/linger/4242424", "")
	want(t, "login", p, OK, "linger is on")
}

func TestUnusableConfiguration(t *testing.T) {
	p := patient(t)
	p.Load = func() Loaded { return Loaded{} }
	for _, c := range checks {
		if c.after != "" && made(c.name, p) != nil {
			t.Errorf("%s was made without a configuration", c.name)
		}
	}
}
