package hosttest

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Identity is what tells a host from others.
type Identity struct {
	Boot, Machine, Name string
}

// Assume makes the ids of this process those of another host. It has namespaces of its own
// then, as Start gives it.
func (i Identity) Assume() error {
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is mounted from there stays
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for target, content := range map[string]string{"/proc/sys/kernel/random/boot_id": i.Boot, "/etc/machine-id": i.Machine} {
		if _, err := os.Stat(target); err != nil {
			continue // without a machine id the host name tells
		}
		path := filepath.Join(dir, filepath.Base(target))
		if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(path, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return unix.Sethostname([]byte(i.Name))
}
