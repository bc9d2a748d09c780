package process

import (
	"os"

	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// onServer says whether other hosts may see what is at path. Where that cannot be told
// they may.
func onServer(path string) bool {
	m, err := mounts.Of(path)
	return err != nil || !m.Local()
}

// lookPrefix begins the names of files that are there for a moment.
const lookPrefix = ".look-"

// lookAgain has this host forget what it remembers of a folder on a file server. It may
// do so for a minute, but not when it has changed the folder itself.
func lookAgain(dir string) {
	f, err := os.CreateTemp(dir, lookPrefix+"*")
	if err != nil {
		return // most likely there is no such folder, and nothing is remembered
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
}
