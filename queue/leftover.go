package queue

import (
	"os"
	"path/filepath"
	"regexp"
)

// Files that are written beside the one they are to replace, to see whether there is
// room, or to look at a copy. A process that dies meanwhile leaves them behind, and
// whoever opens the queue next for writing removes them: under the lock they are
// nobody's, but for a copy that the owner before has made.

const (
	trialFile = "trial"
	copyFile  = "copy"
)

// tempPattern is what os.CreateTemp makes the name out of.
func tempPattern(of string) string { return "." + of + ".*" }

var leftoverName = regexp.MustCompile(`^\.(CURRENT|owner\.json|owner\.beat|trial|copy|try-open|verify\.db)\.[0-9]+(\.renamed)?$`)

// removeLeftovers removes them. That it works is not needed for anything.
func (q *Queue) removeLeftovers() {
	entries, err := os.ReadDir(q.opts.Dir)
	if err != nil {
		q.opts.Logger.Warn("the queue directory cannot be listed, so what a crash may have left there stays", "dir", q.opts.Dir, "error", err)
		return
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !leftoverName.MatchString(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(q.opts.Dir, e.Name())); err != nil {
			q.opts.Logger.Warn("a file that a crash has left cannot be removed", "file", e.Name(), "error", err)
		}
	}
}
