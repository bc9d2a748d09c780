package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
	"github.com/dspy-agent/dspy-agent/queue"
)

func init() { roles["fuse"] = serveFUSE } //nolint:gochecknoinits // the table of roles is what it adds to

// faults are what a file system of ours does wrong.
type faults struct {
	// Lock is what flock(2) does: "" = it works on this mount, and others know nothing
	// of it; "hang" and "enosys".
	Lock string
	// Rename is how long rename(2) takes.
	Rename time.Duration
	// Quota is how many bytes can be written; 0 = any number.
	Quota int64
}

const (
	faultsEnv = "DSPY_QUEUE_TEST_FAULTS"
	mountEnv  = "DSPY_QUEUE_TEST_MOUNT"
)

// mountFaulty shows a directory under another path, served by a process of its own:
// one process that both serves a file system and uses it can block itself.
func mountFaulty(t *testing.T, dir string, f faults) (mount string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system of our own needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("this machine has no FUSE")
	}
	mount = t.TempDir()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=fuse", childDirEnv+"="+dir, mountEnv+"="+mount, faultsEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Without its server nothing hangs in it any more.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the file system is not mounted: %q %v", line, err)
	}
	return mount
}

// serveFUSE is the process that serves it, until it is killed.
func serveFUSE(dir string) error {
	var f faults
	if err := json.Unmarshal([]byte(os.Getenv(faultsEnv)), &f); err != nil {
		return err
	}
	s := &faulty{faults: f, slow: f.Rename, hang: make(chan struct{})}
	root := &fusefs.LoopbackRoot{Path: dir}
	top := &faultyNode{LoopbackNode: fusefs.LoopbackNode{RootData: root}, s: s}
	root.RootNode = top
	var none time.Duration // as on NFS: what others change is seen by the next to open it
	server, err := fusefs.Mount(os.Getenv(mountEnv), top, &fusefs.Options{
		AttrTimeout: &none, EntryTimeout: &none, NegativeTimeout: &none,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, EnableLocks: f.Lock != "", FsName: "files:/export", Name: "faulty"},
	})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	server.Wait()
	return nil
}

type faulty struct {
	faults
	slow    time.Duration
	hang    chan struct{} // never closed
	written atomic.Int64
}

type faultyNode struct {
	fusefs.LoopbackNode
	s *faulty
}

// WrapChild makes every node one of ours.
func (n *faultyNode) WrapChild(_ context.Context, ops fusefs.InodeEmbedder) fusefs.InodeEmbedder {
	if l, ok := ops.(*fusefs.LoopbackNode); ok {
		return &faultyNode{LoopbackNode: fusefs.LoopbackNode{RootData: l.RootData}, s: n.s}
	}
	return ops
}

// plainFile is written through its server: the kernel would go past it.
type plainFile struct{ *fusefs.LoopbackFile }

func (plainFile) PassthroughFd() (int, bool) { return 0, false }

func plain(f fusefs.FileHandle) fusefs.FileHandle {
	if l, ok := f.(*fusefs.LoopbackFile); ok {
		return plainFile{l}
	}
	return f
}

func (n *faultyNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	f, how, errno := n.LoopbackNode.Open(ctx, flags)
	return plain(f), how, errno
}

func (n *faultyNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	i, f, how, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return i, plain(f), how, errno
}

func (n *faultyNode) Rename(ctx context.Context, name string, parent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	select {
	case <-time.After(n.s.slow): // as long as the server takes
	case <-ctx.Done():
		return syscall.EINTR
	}
	if p, ok := parent.(*faultyNode); ok {
		parent = &p.LoopbackNode
	}
	return n.LoopbackNode.Rename(ctx, name, parent, newName, flags)
}

func (n *faultyNode) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if p, ok := target.(*faultyNode); ok {
		target = &p.LoopbackNode
	}
	return n.LoopbackNode.Link(ctx, target, name, out)
}

func (n *faultyNode) Setlk(context.Context, fusefs.FileHandle, uint64, *fuse.FileLock, uint32) syscall.Errno {
	switch n.s.Lock {
	case "hang":
		<-n.s.hang
	case "enosys":
		return syscall.EOPNOTSUPP // the kernel takes ENOSYS for: do it yourself
	}
	return 0
}

func (n *faultyNode) Write(ctx context.Context, f fusefs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if q := n.s.Quota; q != 0 && n.s.written.Add(int64(len(data))) > q {
		return 0, syscall.EDQUOT
	}
	w, ok := f.(fusefs.FileWriter)
	if !ok {
		return 0, syscall.EBADF
	}
	return w.Write(ctx, data, off)
}

// tried has the opening tried by this test's own program.
func tried(dir string) queue.Options { return queue.Options{Dir: dir, Program: "/proc/self/exe"} }

// soon makes sure that people do not wait for long.
func soon(t *testing.T, what func()) {
	t.Helper()
	began := time.Now()
	what()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestFileSystemThatHangs: flock(2) never returns, or a rename does not. Who opens
// hears within five seconds what hangs, where, and whose the queue is.
func TestFileSystemThatHangs(t *testing.T) {
	t.Parallel()
	for step, f := range map[string]faults{"locking queue-000001.db": {Lock: "hang"}, "renaming a file": {Rename: time.Hour}} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
			writeOwnerFile(t, dir, elsewhere())
			mount := mountFaulty(t, dir, f)
			var err error
			soon(t, func() { _, err = queue.Open(context.Background(), tried(mount)) })
			var hung *tryopen.HungError
			if !errors.As(err, &hung) || hung.Step != step || task.CodeOf(err) != task.CodeUnavailable {
				t.Fatalf("open: %v", err)
			}
			wants := []string{mount, "FUSE (faulty) (files:/export, mounted on " + mount + ")", step, "has not returned", "ENV_QUEUE_DIR"}
			if f.Lock != "" {
				wants = append(wants, "its owner is pid 4711 (drain) on host login2")
			}
			for _, part := range wants {
				if msg := err.Error(); !strings.Contains(msg, part) {
					t.Errorf("%q lacks %q", msg, part)
				}
			}
		})
	}
}

// TestFileSystemWithoutLocks is refused, with and without a trial, for reading too.
func TestFileSystemWithoutLocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	mount := mountFaulty(t, dir, faults{Lock: "enosys"})
	for _, opts := range []queue.Options{tried(mount), {Dir: mount}, {Dir: mount, ReadOnly: true}, tried(filepath.Join(mount, "new"))} {
		var err error
		soon(t, func() { _, err = queue.Open(context.Background(), opts) })
		if !errors.Is(err, unix.EOPNOTSUPP) || task.CodeOf(err) != task.CodeUnavailable {
			t.Fatalf("open: %v", err)
		}
		for _, part := range []string{opts.Dir, "FUSE (faulty)", "locks", "ENV_QUEUE_DIR"} {
			if msg := err.Error(); !strings.Contains(msg, part) {
				t.Errorf("%q lacks %q", msg, part)
			}
		}
	}
}

// TestSlowFileSystem: it is said that it is slow, and works.
func TestSlowFileSystem(t *testing.T) {
	t.Parallel()
	mount := mountFaulty(t, t.TempDir(), faults{Rename: 1100 * time.Millisecond})
	log := &logBuffer{}
	opts := tried(filepath.Join(mount, "queue"))
	opts.Logger = log.logger()
	q := openQueue(t, opts)
	submit(t, q, spec("a"))
	closeQueue(t, q)
	if said := log.String(); !strings.Contains(said, "is slow") || !strings.Contains(said, "renaming a file") {
		t.Errorf("nobody is told: %s", said)
	}
	left, err := filepath.Glob(filepath.Join(mount, "queue", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("there are %v (%v)", left, err)
	}
	if _, err := openQueue(t, tried(filepath.Join(mount, "queue"))).Lookup("a"); err != nil {
		t.Error(err)
	}
}

// TestQuota: what was stored when the quota is reached is there, and nothing else.
func TestQuota(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount := mountFaulty(t, dir, faults{Quota: 3 << 20})
	q, err := queue.Open(context.Background(), tried(mount))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := fillDisk(t, q)
	if task.CodeOf(err) != task.CodeExhausted || !errors.Is(err, unix.EDQUOT) || stored == 0 {
		t.Fatalf("a quota that is reached answers with %v after %d", err, stored)
	}
	if msg := err.Error(); !strings.Contains(msg, "disk is full") {
		t.Errorf("it says %q", msg)
	}
	if err := q.Close(); err != nil && !errors.Is(err, unix.EDQUOT) {
		t.Error(err)
	}
	q = openQueue(t, queue.Options{Dir: dir}) // the same files, without the quota
	if got := q.Counts().Total(task.Pending); got != stored {
		t.Errorf("%d tasks are there, and %d were acknowledged", got, stored)
	}
}

// TestTwoHostsOnOneServer: two mounts of one directory, each with locks that the other
// knows nothing of. Only one gets in at a time, because link(2) lets one in.
func TestTwoHostsOnOneServer(t *testing.T) {
	t.Parallel()
	rounds := roundsOf(40)
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	raceOpeners(t, rounds, mountFaulty(t, dir, faults{}), mountFaulty(t, dir, faults{}))
	checkRaced(t, dir, 2*rounds)
}
