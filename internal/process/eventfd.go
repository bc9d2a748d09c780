package process

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// signalFD adds n to an eventfd. It fails only when the counter is full, and
// then its readers are awake.
func signalFD(fd, n int) {
	_, _ = unix.Write(fd, binary.NativeEndian.AppendUint64(nil, uint64(n)))
}

// takeFD takes one from an eventfd that is a semaphore and does not block; false
// when there is none left.
func takeFD(fd int) bool {
	var b [8]byte
	_, err := unix.Read(fd, b[:])
	return err == nil
}
