package doctor

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// What is left below which a queue is in danger, and below which it soon will be.
const (
	roomProblem  = 100 << 20
	roomWarning  = 1 << 30
	filesProblem = 100
	filesWarning = 10_000
)

// left is what is left to write, of room and of files, and what sets the limit.
type left struct {
	bytes, files     uint64
	bytesBy, filesBy string
}

// endless is a limit that is none.
const endless = 1 << 62

// checkSpace says how much room and how many files are left to the queue, by the
// file system and by the quota.
func checkSpace(_ context.Context, x *examination, cfg config.Config) []Finding {
	dir := existing(cfg.QueueDir)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return bad(Warning, fmt.Sprintf("cannot tell how much room %s has: %s", dir, err), "")
	}
	const disk = "the file system"
	l := left{bytes: st.Bavail * uint64(st.Bsize), files: st.Ffree, bytesBy: disk, filesBy: disk}
	if st.Files == 0 {
		l.files = endless // it makes them as needed
	}
	return l.least(quotaOf(dir, x.UID)).judge(dir)
}

// least takes of each limit the tighter one.
func (l left) least(other left) left {
	if other.bytes < l.bytes {
		l.bytes, l.bytesBy = other.bytes, other.bytesBy
	}
	if other.files < l.files {
		l.files, l.filesBy = other.files, other.filesBy
	}
	return l
}

// judge says whether that is enough.
func (l left) judge(dir string) []Finding {
	room := fmt.Sprintf("%s left in %s by %s", humanize.IBytes(l.bytes), dir, l.bytesBy)
	files := fmt.Sprintf("room for only %s more files in %s by %s", humanize.Comma(int64(min(l.files, endless))), dir, l.filesBy)
	const makeRoom = "make room, or set ENV_QUEUE_DIR to a folder with more"
	const removeFiles = "remove files (df -i); every task has a few"
	switch {
	case l.bytes < roomProblem:
		return bad(Problem, room, makeRoom)
	case l.files < filesProblem:
		return bad(Problem, files, removeFiles)
	case l.bytes < roomWarning:
		return bad(Warning, room, makeRoom)
	case l.files < filesWarning:
		return bad(Warning, files, removeFiles)
	}
	return good("%s", room)
}
