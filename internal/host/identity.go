package host

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Identity is where something runs.
type Identity struct {
	// Machine is the machine over all its boots. It is a hash, as machine-id(5)
	// asks of those who store or send it.
	Machine string
	// Boot is the random id that the kernel chose for this boot. Two that have the
	// same one share a kernel: one is a container of the other, or both are.
	Boot string
	// PIDs is the inode of the pid namespace. Pids of two namespaces cannot be
	// compared. 0 = not known.
	PIDs uint64
	// Name is the host name, for people.
	Name string
}

// This returns where the caller runs.
func This() (Identity, error) {
	boot, err := BootID()
	if err != nil {
		return Identity{}, err
	}
	name, err := os.Hostname()
	if err != nil {
		return Identity{}, fmt.Errorf("read the host name: %w", err)
	}
	return Identity{Machine: machine(machineFiles, name), Boot: boot, PIDs: pidNamespace(), Name: name}, nil
}

// BootID returns the random id that the kernel chose for this boot, as text.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id (is /proc mounted?): %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Booted returns when the kernel began to run, by the clock as it goes now. It is not
// exact: the clock may have been set since.
func Booted() time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(up.Nano()))
}

// Where a machine keeps its id, the best first.
var machineFiles = []string{"/etc/machine-id", "/var/lib/dbus/machine-id"}

// machine returns the id of the machine, made from the first file that has one,
// else from the host name. Containers often have an empty file.
func machine(files []string, name string) string {
	for _, path := range files {
		b, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(b)); err == nil && isMachineID(id) {
			return derived(id)
		}
	}
	return derived("name:" + name)
}

// isMachineID says whether it is 32 hexadecimal digits. An image that was not
// booted yet has "uninitialized" in the file.
func isMachineID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16
}

// derived makes an id of our own from one that is not to be given away.
func derived(id string) string {
	h := hmac.New(sha256.New, []byte(id))
	h.Write([]byte("dspy-agent"))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// pidNamespace returns the inode of our pid namespace; 0 if it cannot be told.
func pidNamespace() uint64 {
	link, err := os.Readlink("/proc/self/ns/pid") // "pid:[4026531836]"
	if err != nil {
		return 0
	}
	digits := strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// initialPIDs is the inode of the namespace that sees every process of the
// machine. The kernel's interface fixes it (PROC_PID_INIT_INO).
const initialPIDs = 0xEFFFFFFC

// SeesAll says whether every process of the machine has a pid here.
func (id Identity) SeesAll() bool { return id.PIDs == initialPIDs }
