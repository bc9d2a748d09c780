package dropfolder

import (
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// After a restoration or a repair the queue may lack tasks that it had accepted. Their
// files lie in taken/ and look like those that a crash kept from being submitted; but the
// tasks may have run, or run still. So what lies there then is submitted only if the queue
// knows its task. All else goes to rejected/, for a person to decide. Until that is done
// nothing is taken, which would look the same after a crash.

// whyUnknown is the reason for which such a file is rejected.
const whyUnknown = "the queue was restored from a backup, or repaired, after this file was taken, and does not know its task. " +
	"It may have run, and what it started may run still; nothing was started now. Look for what it has done, and put the file back if it is to run"

// distrust marks what lies in taken/ where the queue was made anew.
func (f *Folder) distrust() (err error) {
	if f.rebuilt, err = f.opts.Origin.Rebuilt(); err != nil || !f.rebuilt {
		return err
	}
	for _, e := range f.taken.unsettled {
		e.before = true
	}
	return nil
}

// unknown says whether the task of an entry from before is one that the queue does not
// know. What it cannot tell now it is asked again.
func (f *Folder) unknown(e *entry, id string) (bool, error) {
	if !e.before {
		return false, nil
	}
	_, err := f.opts.Tasks.Outcome(id)
	if task.CodeOf(err) == task.CodeNotFound {
		return true, nil
	}
	return false, err
}

// endDistrust ends it once all of them have been gone through, and that is on disk.
func (f *Folder) endDistrust(now time.Time) {
	if !f.rebuilt || f.dirty || slices.ContainsFunc(f.taken.unsettled, func(e *entry) bool { return e.before }) {
		return
	}
	if f.trouble.note("rebuilt", "that the files of before a restoration have been gone through cannot be noted; nothing is taken until it can", f.opts.Origin.ForgetRebuilt()) {
		return
	}
	f.rebuilt, f.scanAt = false, now
}
