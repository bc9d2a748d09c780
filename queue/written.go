package queue

import (
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// Written returns when somebody last had the queue for writing; zero = that cannot be
// told. Every opening for writing writes the database, and before that, as long as it has
// no name, its owner.json beside it. On a file server the trial of an opening makes files
// there as well, our own included, so that only the database counts.
func Written(dir string) time.Time {
	at := databaseWritten(dir)
	if m, err := mounts.Of(dir); err != nil || !m.Local() {
		return at
	}
	if info, err := os.Stat(dir); err == nil && info.ModTime().After(at) {
		return info.ModTime()
	}
	return at
}

func databaseWritten(dir string) time.Time {
	path, err := currentPath(dir)
	if err != nil {
		return time.Time{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
