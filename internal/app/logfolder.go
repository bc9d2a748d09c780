package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/queue"
)

// MakeLogFolder makes the folder of the daemon's log if it is not there. One that we make is
// kept out of a repository that the workspace may be; one that was there may be part of it.
func MakeLogFolder(c config.Config) error {
	_, err := os.Stat(c.LogDir)
	if err := os.MkdirAll(c.LogDir, 0o700); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		queue.Ignore(c.LogDir)
	}
	return nil
}

// withinLogs says whether the queue lies in the folder of logs, as it does by default: who makes
// the one makes the other.
func withinLogs(c config.Config) bool {
	below, err := filepath.Rel(c.LogDir, c.QueueDir)
	return err == nil && filepath.IsLocal(below)
}
