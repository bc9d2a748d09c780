package doctor

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quota is struct if_dqblk of quotactl(2).
type quota struct {
	blockHard, blockSoft uint64 // in KiB
	space                uint64 // bytes in use
	fileHard, fileSoft   uint64
	files                uint64 // in use
	blockTime, fileTime  uint64
	valid                uint32
	_                    uint32
}

// The call that returns a user's quota (include/uapi/linux/quota.h): QCMD(Q_GETQUOTA,
// USRQUOTA), and which of its limits hold.
const (
	getUserQuota = 0x800007 << 8
	validBlocks  = 1 << 0 // QIF_BLIMITS
	validFiles   = 1 << 2 // QIF_ILIMITS
	quotaBlock   = 1024
)

// quotaOf returns what the user's quota leaves on the file system of a folder, as
// far as the kernel knows of one: that of an NFS server it does not.
func quotaOf(dir string, uid int) left {
	var q quota
	if f, err := os.Open(dir); err == nil {
		defer f.Close()
		// Without a quota, and before Linux 5.14, this fails and leaves q as it is.
		_, _, _ = unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), getUserQuota, uintptr(uid), uintptr(unsafe.Pointer(&q)), 0, 0)
	}
	return q.left()
}

// left says what the hard limits leave.
func (q quota) left() left {
	const by = "the user's quota"
	l := left{bytes: endless, files: endless, bytesBy: by, filesBy: by}
	if q.valid&validBlocks != 0 && q.blockHard > 0 {
		l.bytes = remaining(q.blockHard*quotaBlock, q.space)
	}
	if q.valid&validFiles != 0 && q.fileHard > 0 {
		l.files = remaining(q.fileHard, q.files)
	}
	return l
}

func remaining(limit, used uint64) uint64 { return limit - min(used, limit) }
