package queue

import (
	"os"
	"time"
)

// Written returns when the database in use was written last; zero = that cannot be told.
// Every opening for writing writes it, and nothing else does: not even a trial of the
// opening, which makes files beside it.
func Written(dir string) time.Time {
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
