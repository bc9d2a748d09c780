package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// checkFileSystem says what the queue is on, and tries what a queue needs of it.
func checkFileSystem(_ context.Context, _ *examination, cfg config.Config) []Finding {
	dir := existing(cfg.QueueDir)
	on, err := mounts.Of(dir)
	if err != nil {
		return bad(Warning, fmt.Sprintf("cannot tell what %s is on: %s", dir, err), "")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
		return bad(Problem, fmt.Sprintf("the queue in %s is on a file system (%s) that is mounted read-only", dir, on.Kind()),
			"set ENV_QUEUE_DIR to a folder that can be written, or have it mounted for writing")
	}
	kind, trouble := judgeKind(dir, on), tryFile(dir)
	if trouble == nil {
		kind[0].Text += "; locks and mapped memory work there"
	}
	return append(kind, trouble...)
}

// shared are the kinds of file systems that hosts share and on which they take turns with
// a queue.
var shared = map[string]bool{
	"beegfs": true, "ceph": true, "gfs2": true, "gpfs": true, "lustre": true, "nfs": true, "nfs4": true, "ocfs2": true, "orangefs": true, "panfs": true, "pvfs2": true, "wekafs": true,
}

// judgeKind says what to expect of a kind of file system.
func judgeKind(dir string, on mounts.Mount) []Finding {
	switch {
	case on.Type == "tmpfs", on.Type == "ramfs":
		return bad(Warning, fmt.Sprintf("the queue in %s is in memory (%s): it and the output of tasks are gone when the machine is restarted", dir, on.Kind()),
			"set ENV_QUEUE_DIR to a folder on a disk")
	case on.Type == "overlay":
		return bad(Note, fmt.Sprintf("the queue in %s is in a container's own file system (overlay), and goes with the container", dir),
			"put the workspace on a volume to keep it")
	case shared[on.Type]:
		return bad(Note, fmt.Sprintf("the queue in %s is on %s, which several hosts can see; one of them has the queue at a time, and who that is they settle there", dir, on),
			"daemons and drains of several hosts may take turns, as docs/no-daemon.md has it; on a local disk (ENV_QUEUE_DIR) every commit is faster")
	case !on.Local():
		return bad(Warning, fmt.Sprintf("the queue in %s is on %s, whose locks and writes are what another program, or nobody knows what, makes of them", dir, on),
			"use it from one host at a time; or set ENV_QUEUE_DIR to a folder on a local disk, or on a file system that hosts share, such as NFS")
	}
	return good("the queue in %s is on %s", dir, on)
}

// tryFile tries locks and mapped memory on a file of its own, and says what is wrong
// with them; nil if nothing is. Where no file can be made nothing is tried, and
// checkWorkspace says so.
func tryFile(dir string) []Finding {
	f, err := os.CreateTemp(dir, trialFile)
	if err != nil {
		return []Finding{}
	}
	defer func() {
		_ = os.Remove(f.Name()) // left behind it does no harm
		_ = f.Close()
	}()
	var out []Finding
	if err := tryLock(f); err != nil {
		out = append(out, bad(Problem, fmt.Sprintf("file locks do not work in %s (%s), so two daemons could spoil the queue", dir, err),
			"set ENV_QUEUE_DIR to a folder on a local disk, or have the file system mounted with locks (flock)")...)
	}
	if err := tryMap(f); err != nil {
		out = append(out, bad(Problem, fmt.Sprintf("files in %s cannot be mapped into memory as the queue needs it (%s)", dir, err), "set ENV_QUEUE_DIR to a folder on a local disk")...)
	}
	return out
}

var (
	errLockGranted = errors.New("a lock is granted twice")
	errStaleMap    = errors.New("what is written is not seen in memory")
	errFault       = errors.New("reading the memory fails")
)

// tryLock takes a lock, and sees whether it keeps a second one out.
func tryLock(f *os.File) error {
	if err := host.LockOpen(f); err != nil {
		return err
	}
	second, err := host.Lock(f.Name())
	if errors.Is(err, host.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(errLockGranted, second.Close())
}

// tryMap maps the file as the database is: read through memory, written past it.
func tryMap(f *os.File) (err error) {
	const page = 4096
	if err := f.Truncate(page); err != nil {
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(mem)) }()
	// Where the disk is full or the server gone, memory answers with a signal.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = errFault
		}
	}()
	for _, b := range []byte("ab") {
		if _, err := f.WriteAt([]byte{b}, page-1); err != nil {
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				return nil // checkSpace says so
			}
			return err
		}
		if mem[page-1] != b {
			return errStaleMap
		}
	}
	return nil
}
