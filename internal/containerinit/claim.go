package containerinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// claim says that an attempt has begun, or never will.
type claim struct {
	Version   int       `json:"v"`
	Boot      string    `json:"boot"` // of the kernel below
	At        time.Time `json:"at"`
	Withdrawn bool      `json:"withdrawn,omitempty"`
}

// Withdraw sees to it that an attempt never begins. False says that it has. A folder that
// is not there is made.
func Withdraw(dir string) (bool, error) {
	d, err := openFolder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, fmt.Errorf("withdraw the attempt: %w", err)
		}
		d, err = openFolder(dir)
	}
	switch {
	case errors.Is(err, errStrange):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("withdraw the attempt: %w", err)
	}
	defer d.close()
	f, err := d.take(claim{Version: version, Boot: bootID(), At: time.Now(), Withdrawn: true})
	switch {
	case err == nil:
		if err := f.Close(); err != nil {
			return false, fmt.Errorf("withdraw the attempt: %w", err)
		}
	case !errors.Is(err, fs.ErrExist):
		return false, err
	}
	r, err := d.record() // it may have ended, and have removed its claim
	if err == nil && !r.Claimed {
		err = errors.New("withdraw the attempt: its claim is neither free nor there")
	}
	return r.Withdrawn, err
}

// take makes the claim, and returns its file, locked if that can be done there. The error
// matches fs.ErrExist if it was taken.
func (d folder) take(c claim) (*os.File, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	name := unique(claimFile) // several may try at the same time
	f, err := d.openat(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("claim the attempt: %w", err)
	}
	if !c.Withdrawn {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // where there are no locks, its cgroup is looked at
	}
	_, err = f.Write(b)
	at := int(d.f.Fd())
	if err == nil {
		err = unix.Linkat(at, name, at, claimFile, 0)
	}
	if err := errors.Join(err, unix.Unlinkat(at, name, 0)); err != nil {
		return nil, fmt.Errorf("claim the attempt: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// unique is a name for a file that gets its own when it is whole.
func unique(name string) string {
	return name + newSuffix + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// bootID names the run of the kernel below: that of a container is its host's.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
