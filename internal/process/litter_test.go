package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Only journals of the same host and another boot are removed, when they are old
// and nobody has them.
func TestSweepOfSpools(t *testing.T) {
	root := t.TempDir()
	spool := func(name string, age time.Duration, files ...string) string {
		dir := filepath.Join(root, name)
		must(t, os.MkdirAll(dir, 0o700))
		for _, f := range files {
			path := filepath.Join(dir, f)
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
		}
		return dir
	}
	all := []string{journalName, lockFileName, journalName + newSuffix}
	own := spool("my-host-00000001", 48*time.Hour, all...)
	must(t, os.Chtimes(filepath.Join(own, lockFileName), time.Time{}, time.Now()))
	old := spool("my-host-0badcafe", 48*time.Hour, all...)
	held := spool("my-host-0000000c", 48*time.Hour, all...)
	lock, err := host.Lock(filepath.Join(held, lockFileName))
	must(t, err)
	defer lock.Close()
	keep := []string{
		own, held,
		spool("my-host-0000000a", time.Hour, all...),                // may be wanted still
		spool("my-host-0000000b", 48*time.Hour, "notes", "journal"), // what is not ours stays
		spool("my-0000000d", 48*time.Hour, all...),                  // other hosts
		spool("my-host-2-0000000e", 48*time.Hour, all...),
		spool("my-host-not-hex!", 48*time.Hour, all...),
	}
	full := spool("my-host-0000000f", 48*time.Hour, lockFileName) // what it says has not been taken over
	must(t, os.WriteFile(filepath.Join(full, journalName), []byte("record"), 0o600))
	must(t, os.Chtimes(filepath.Join(full, journalName), time.Time{}, time.Now().Add(-48*time.Hour)))
	keep = append(keep, full)
	removed, err := sweepSpools(own, spoolAge)
	must(t, err)
	// Of the first only our files, for what is not ours is in it.
	if want := []string{filepath.Join(root, "my-host-0000000b"), old}; !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old one is still there")
	}
	for _, dir := range keep {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, filepath.Join(root, "my-host-0000000b")); !slices.Equal(got, []string{"notes"}) {
		t.Errorf("beside what is not ours there is %q", got)
	}
	if got := names(t, own); len(got) != len(all) {
		t.Errorf("of our own there is %q", got)
	}
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// The files of tasks are removed when the queue does not know the task, and
// those that were never finished; not what is being written, nor what is not ours.
func TestSweepOfFiles(t *testing.T) {
	old := sweepGrace
	sweepGrace = 50 * time.Millisecond
	defer func() { sweepGrace = old }()
	p := newPlace(t)
	opts := p.options("q")
	looked := make(chan struct{}, 100)
	opts.Known = func(ref task.Ref) (bool, error) {
		looked <- struct{}{}
		return ref.Seq != 7, nil
	}
	file := func(name string) string {
		path := filepath.Join(opts.TasksDir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
		return path
	}
	gone := []string{
		file("0/7-1.log"), file("0/7-1.log.cuts"), file("0/7-2.payload.json"), file("0/7-2.result.json"),
		file("0/8-1.payload.json.new"), file("3/3000-1.log.cuts.new"),
	}
	stays := []string{
		file("0/8-1.log"), file("0/8-1.payload.json"), file("0/7-1.log.bak"), file("0/7.log"), file("0/notes"), file("other/7-1.log"), file("7-1.log"),
	}
	must(t, os.Mkdir(filepath.Join(opts.TasksDir, "0", "7-3.log"), 0o700))
	d := p.daemon(t, opts)
	for _, path := range gone {
		poll(t, "the removal of "+path, func() bool { _, err := os.Lstat(path); return err != nil })
	}
	d.stop()
	for _, path := range stays {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if len(looked) == 0 {
		t.Error("the queue was not asked")
	}
}

// A file that changes between the two looks is somebody's.
func TestChangedFileIsNoLitter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "8-1.payload.json.new")
	must(t, os.WriteFile(path, nil, 0o600))
	before, err := os.Lstat(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte("{}"), 0o600))
	if removeUnchanged(path, before) {
		t.Error("it was removed while it was written")
	}
	if before, err = os.Lstat(path); err != nil || !removeUnchanged(path, before) {
		t.Errorf("it was not removed: %v", err)
	}
}

// What supervisors of this user left of cgroups is removed, unless tasks are in
// it or a supervisor has it. Where there are no cgroups there is no litter.
func TestSweepOfCgroups(t *testing.T) {
	p := newPlace(t)
	ours := openCgroups(filepath.Join(p.dir, "ours"), discard())
	if ours == nil {
		ours.sweepOthers() // does nothing
		return
	}
	t.Cleanup(ours.close)
	live := openCgroups(filepath.Join(p.dir, "live"), discard())
	if live == nil {
		t.Fatal("a second supervisor has no cgroups")
	}
	t.Cleanup(live.close)
	live.take().release() // empty, and to be used again
	parent := filepath.Dir(ours.dir)
	dead := func(uid int, name string) string {
		dir := filepath.Join(parent, fmt.Sprintf("%s%d-%s%d", cgroupPrefix, uid, name, os.Getpid()))
		must(t, os.MkdirAll(filepath.Join(dir, "1"), 0o755))
		t.Cleanup(func() { removeCgroupsIn(dir); _ = unix.Rmdir(dir) })
		return dir
	}
	left, foreign, busy := dead(os.Getuid(), "left"), dead(os.Getuid()+1, "foreign"), dead(os.Getuid(), "busy")
	endBusy := occupy(t, filepath.Join(busy, "1"))
	ours.sweepOthers()
	if _, err := os.Stat(left); err == nil {
		t.Error("what a dead supervisor left is still there")
	}
	for _, dir := range []string{foreign, busy, filepath.Join(busy, "1"), live.dir, filepath.Join(live.dir, "2")} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	endBusy()
	poll(t, "the removal of what was busy", func() bool {
		ours.sweepOthers()
		_, err := os.Stat(busy)
		return err != nil
	})
}

// occupy puts a process into a cgroup; end ends it.
func occupy(t *testing.T, dir string) (end func()) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	child, err := startIn(&cgroup{dir: f})
	must(t, err)
	must(t, f.Close())
	return func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}
}

// A supervisor looks for litter a while after it began.
func TestSupervisorSweeps(t *testing.T) {
	t.Setenv(envHasty, "1")
	p := newPlace(t)
	opts := p.options("q")
	b, err := New(opts)
	must(t, err)
	i := strings.LastIndexByte(b.spool, '-') + 1
	old := b.spool[:i] + strings.Repeat("0", len(b.spool)-i)
	must(t, os.MkdirAll(old, 0o700))
	path := filepath.Join(old, journalName)
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-2*spoolAge)))
	p.watch(t, b, map[task.Ref][]task.Change{})
	poll(t, "the removal of the old spool", func() bool { _, err := os.Stat(old); return err != nil })
}
