package containerinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is in the folder of a record.
const (
	claimFile = "claim.json"
	endFile   = "end.json"
	// OutputFile is the attempt's log by another name. It is there before the container is.
	OutputFile = "output"
	newSuffix  = ".new"
)

// version is that of the record. Later ones only add fields.
const version = 1

// claim says that an attempt has begun, or never will.
type claim struct {
	Version   int       `json:"v"`
	Boot      string    `json:"boot"` // of the kernel below
	At        time.Time `json:"at"`
	Withdrawn bool      `json:"withdrawn,omitempty"`
}

// End is how a program ended.
type End struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
	Code    int       `json:"code"` // as shells tell it: 128 + N for signal N
	Signal  int       `json:"signal,omitempty"`
	Asked   bool      `json:"asked,omitempty"`   // somebody outside had asked it to end
	OOM     bool      `json:"oom,omitempty"`     // the kernel killed something in it for lack of memory
	Trouble string    `json:"trouble,omitempty"` // why it could not be run
	Dropped int64     `json:"dropped,omitempty"` // bytes of output for which there was no room
}

// Record is what is known of an attempt without its engine.
type Record struct {
	Claimed   bool
	Withdrawn bool      // it has not begun, and never will
	At        time.Time // when it began
	Alive     bool      // its container surely lives
	End       *End      // nil = it has not ended, or was killed with its container
}

// Begun says that the program was started, as far as that was possible.
func (r Record) Begun() bool { return r.Claimed && !r.Withdrawn }

// Read reads the record in a folder. One that is not there is of an attempt that has not
// begun.
func Read(dir string) (Record, error) {
	f, err := openPlain(filepath.Join(dir, claimFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the claim of a container: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	r := Record{Claimed: true}
	var c claim
	if err := decode(f, &c); err == nil { // its being there is what counts
		r.Withdrawn, r.At = c.Withdrawn, c.At
	}
	// Locked by whom we cannot know, but on this machine it means what it says. First
	// that, then the end: of who is dead nothing more comes.
	r.Alive = !r.Withdrawn && c.Boot == bootID() && errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	e, err := openPlain(filepath.Join(dir, endFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the end of a container: %w", err)
	}
	defer e.Close() //nolint:errcheck // only read from
	var end End
	if err := decode(e, &end); err != nil {
		return r, nil //nolint:nilerr // the program has put something else in its place; the engine knows more
	}
	r.End = &end
	return r, nil
}

// Withdraw sees to it that an attempt never begins. False says that it has.
func Withdraw(dir string) (bool, error) {
	f, err := take(dir, claim{Version: version, Boot: bootID(), At: time.Now(), Withdrawn: true})
	if err == nil {
		return true, f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	r, err := Read(dir)
	return r.Withdrawn, err
}

// take makes the claim, and returns its file, locked if that can be done there. The error
// matches fs.ErrExist if it was taken.
func take(dir string, c claim) (*os.File, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	// A name of its own: several may try at the same time.
	name := filepath.Join(dir, claimFile+newSuffix+"-"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim the attempt: %w", err)
	}
	if !c.Withdrawn {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // where there are no locks, its cgroup is looked at
	}
	_, err = f.Write(b)
	if err == nil {
		err = unix.Link(name, filepath.Join(dir, claimFile))
	}
	if err := errors.Join(err, os.Remove(name)); err != nil {
		return nil, fmt.Errorf("claim the attempt: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// write writes down the end, in one step.
func (e End) write(dir string) error {
	e.Version = version
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, endFile)
	if err := os.WriteFile(path+newSuffix, b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+newSuffix, path)
}

// openPlain opens a file that the program may have put something else in place of.
func openPlain(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("not a regular file"), f.Close())
	}
	return f, nil
}

// maxRecord is more than any file of a record has.
const maxRecord = 64 << 10

func decode(f *os.File, v any) error {
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// bootID names the run of the kernel below: that of a container is its host's.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
