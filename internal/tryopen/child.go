package tryopen

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main is main for a binary whose first argument is Arg; args are those behind it.
// It returns the exit code.
func Main(args []string) int {
	var p Plan
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &p) != nil {
		return 2
	}
	t := trial{plan: p, lines: json.NewEncoder(os.Stdout)}
	t.run()
	return 0
}

// trial is the child's work. Only what its parent cannot find out without danger is
// told: steps that hang, and locks that are not there. Every other failure the
// parent meets itself, and has its own words for.
type trial struct {
	plan  Plan
	lines *json.Encoder
}

func (t *trial) say(l line) { _ = t.lines.Encode(l) } // without a parent there is nobody to tell

// begin announces a step.
func (t *trial) begin(step string) { t.say(line{Step: step}) }

func (t *trial) run() {
	t.folder()
	if name := t.names(); name != "" {
		t.database(filepath.Join(t.plan.Dir, name))
	}
	t.say(line{Done: true})
}

// database tries what opening does to the database.
func (t *trial) database(path string) {
	f := t.open(path)
	if f == nil && t.plan.Write {
		f = t.scratch() // there is no database yet
	}
	if f == nil {
		return
	}
	t.lock(f)
	t.begin("reading " + filepath.Base(f.Name()))
	_, _ = f.ReadAt(make([]byte, 4*os.Getpagesize()), 0) // what is in it the parent judges
	if strings.HasPrefix(filepath.Base(f.Name()), TrialFile) {
		t.remove(f.Name())
	}
	_ = f.Close()
}

// folder tries what opening does to the folder.
func (t *trial) folder() {
	if !t.plan.Write {
		t.begin("looking at the folder")
		_, _ = os.Stat(t.plan.Dir)
		return
	}
	t.begin("making the folder")
	_ = os.MkdirAll(t.plan.Dir, 0o700)
	f := t.scratch()
	if f == nil {
		return
	}
	_, _ = f.WriteString("trial\n")
	t.begin("writing a file")
	_ = f.Sync()
	_ = f.Close()
	t.begin("renaming a file")
	name := f.Name()
	if os.Rename(name, name+".renamed") == nil {
		name += ".renamed"
	}
	t.remove(name)
}

// scratch makes a file of our own; nil = that cannot be done.
func (t *trial) scratch() *os.File {
	t.begin("making a file")
	f, err := os.CreateTemp(t.plan.Dir, TrialFile+"*")
	if err != nil {
		return nil
	}
	return f
}

func (t *trial) remove(path string) {
	t.begin("removing a file")
	_ = os.Remove(path)
}

// maxNote bounds what is brought back.
const maxNote = 64 << 10

// names reads the small files, and returns the name of the database; "" = none is to be
// opened.
func (t *trial) names() string {
	if t.plan.Note != "" {
		t.begin("reading " + t.plan.Note)
		if b, err := readSmall(filepath.Join(t.plan.Dir, t.plan.Note)); err == nil {
			t.say(line{Note: b})
		}
	}
	name := t.plan.Default
	if t.plan.Pointer != "" {
		t.begin("reading " + t.plan.Pointer)
		if b, err := readSmall(filepath.Join(t.plan.Dir, t.plan.Pointer)); err == nil {
			name = filepath.Base(strings.TrimSpace(string(b)))
		}
	}
	if t.plan.Default == "" {
		return ""
	}
	return name
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxNote))
	return b, errors.Join(err, f.Close())
}

// open opens the database as the parent is going to; some file systems lock for
// writing only what is open for writing.
func (t *trial) open(path string) *os.File {
	t.begin("opening " + filepath.Base(path))
	flag := os.O_RDONLY
	if t.plan.Write {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil
	}
	return f
}

// lock takes the lock, which goes with the process. That somebody else has it is an
// answer like any other.
func (t *trial) lock(f *os.File) {
	t.begin("locking " + filepath.Base(f.Name()))
	how := unix.LOCK_SH
	if t.plan.Write {
		how = unix.LOCK_EX
	}
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errno, ok := errors.AsType[syscall.Errno](err); ok && lockless(errno) {
		t.say(line{Errno: int(errno)})
	}
}

// lockless says whether the error means that the file system has no locks.
func lockless(errno syscall.Errno) bool {
	return errno == unix.ENOSYS || errno == unix.ENOLCK || errno == unix.EOPNOTSUPP
}
