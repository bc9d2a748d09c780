package tryopen

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain is the child when a test starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Arg {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func plan(dir string) Plan {
	return Plan{Dir: dir, Pointer: "CURRENT", Default: "one.db", Note: "note", Write: true}
}

func run(t *testing.T, p Plan, limit time.Duration) (Report, error) {
	t.Helper()
	return Run(t.Context(), "/proc/self/exe", p, limit)
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// A trial that finds nothing wrong brings back the note and leaves nothing behind;
// one for reading does not even make the folder.
func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	reading := plan(dir)
	reading.Write = false
	if _, err := run(t, reading, Limit); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading made the folder: %v", err)
	}
	if r, err := run(t, plan(dir), Limit); err != nil || r.Note != nil {
		t.Errorf("%q, %v", r.Note, err)
	}
	if there := list(t, dir); there != "" {
		t.Errorf("it left %s", there)
	}
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte("a note"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := run(t, plan(dir), Limit); err != nil || string(r.Note) != "a note" || r.Slowest.Took == 0 {
		t.Errorf("%q, %v, %v", r.Note, r.Slowest, err)
	}
}

// A file that hangs whoever opens it is the step that is named, and what was read
// before counts.
func TestHang(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reading := plan(dir)
	reading.Write = false
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("two.db\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "note"), []byte("a note"), 0o600),
		unix.Mkfifo(filepath.Join(dir, "two.db"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t, reading, 500*time.Millisecond)
	var hung *HungError
	if !errors.As(err, &hung) || hung.Step != "opening two.db" || string(r.Note) != "a note" {
		t.Errorf("%q, %v", r.Note, err)
	}
}

// Who wants no database opened has none opened, nor locked.
func TestFolderAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := plan(dir)
	p.Write, p.Default = false, ""
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("two.db\n"), 0o600),
		unix.Mkfifo(filepath.Join(dir, "two.db"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, p, Limit); err != nil {
		t.Error(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "note"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = run(t, p, 500*time.Millisecond)
	var hung *HungError
	if !errors.As(err, &hung) || hung.Step != "reading note" {
		t.Errorf("a note that hangs: %v", err)
	}
	p.Pointer, p.Note, p.Write = "", "", true
	if _, err := run(t, p, Limit); err != nil || list(t, dir) != "CURRENT note two.db" {
		t.Errorf("%v, there are %s", err, list(t, dir))
	}
}

// A lock that somebody else has is an answer.
func TestLockIsTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "one.db"))
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := run(t, plan(dir), Limit); err != nil {
		t.Error(err)
	}
}

// Whoever waits can be called away.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "note"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, "/proc/self/exe", plan(dir), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A program that is not ours, or is not there, has tried nothing.
func TestNoTrial(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"/bin/true", "/bin/false", "/not/there"} {
		if _, err := Run(t.Context(), program, plan(t.TempDir()), Limit); !errors.Is(err, ErrNoTrial) {
			t.Errorf("%s: %v", program, err)
		}
	}
	if Main([]string{"{"}) != 2 || Main(nil) != 2 {
		t.Error("a child without a plan does not say so")
	}
}

func TestLockless(t *testing.T) {
	t.Parallel()
	for errno, want := range map[syscall.Errno]bool{unix.ENOSYS: true, unix.ENOLCK: true, unix.EOPNOTSUPP: true, unix.EWOULDBLOCK: false, unix.EIO: false} {
		if got := lockless(errno); got != want {
			t.Errorf("%s: %v", errno, got)
		}
	}
}
