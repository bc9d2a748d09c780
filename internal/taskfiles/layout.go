package taskfiles

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ShardSize is how many tasks share a directory, so that none grows so large
// that listing it hurts.
const ShardSize = 1000

const (
	logSuffix    = ".log"
	resultSuffix = ".result.json"
)

// Layout says where the files of attempts are. The supervisor makes the log,
// the backend the payload, and the program itself the result.
type Layout struct {
	Dir string // the tasks directory of a queue
}

// LogPath is where the output goes: stdout and stderr, as on a terminal.
func (l Layout) LogPath(r task.Ref) string { return l.path(r, logSuffix) }

// PayloadPath is where the program finds its payload, if the task has one.
func (l Layout) PayloadPath(r task.Ref) string { return l.path(r, ".payload.json") }

// ResultPath is where the program may leave a JSON object.
func (l Layout) ResultPath(r task.Ref) string { return l.path(r, resultSuffix) }

// ContainerDir is where a container's own files are: what it shares with us, and what
// is remembered about it while it is there.
func (l Layout) ContainerDir(r task.Ref) string { return l.path(r, ".container") }

// JobDir is where a Slurm job's own files are: what it reads, and what it noted.
func (l Layout) JobDir(r task.Ref) string { return l.path(r, ".slurm") }

// Files are all the files that an attempt may have.
func (l Layout) Files(r task.Ref) []string {
	return []string{l.LogPath(r), l.LogPath(r) + cutsSuffix, l.LogPath(r) + streamsSuffix, l.PayloadPath(r), l.ResultPath(r)}
}

func (l Layout) path(r task.Ref, suffix string) string {
	b := make([]byte, 0, len(l.Dir)+48)
	b = append(b, l.Dir...)
	b = append(b, filepath.Separator)
	b = strconv.AppendUint(b, uint64(r.Seq/ShardSize), 10)
	b = append(b, filepath.Separator)
	b = strconv.AppendUint(b, uint64(r.Seq), 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(r.Attempt), 10)
	return string(append(b, suffix...))
}

// Prepare makes the directory of an attempt.
func (l Layout) Prepare(r task.Ref) error {
	if err := os.MkdirAll(filepath.Dir(l.path(r, "")), 0o700); err != nil {
		return fmt.Errorf("make task directory: %w", err)
	}
	return nil
}
