package dropfolder

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
)

// reject moves an entry to rejected/. When that does not work it is tried again.
func (f *Folder) reject(e *entry, now time.Time, reason string) {
	err := f.moveToRejected(f.layout.taken, e.file, e.base, e.ticket, reason)
	if f.trouble.note("reject", "files cannot be moved to rejected/; they are tried again", err) {
		e.look.retryAt = now.Add(retryFirst)
		f.unsettle(e, now)
		return
	}
	if err := f.layout.taken.remove(e.ticket + nameSuffix); err != nil {
		f.opts.Logger.Debug("a name was left behind", "error", err) // the next start removes it
	}
	f.taken.remove(e)
	f.opts.Logger.Warn("a file of the drop folder was rejected", "file", e.base+suffix, "ticket", e.ticket, "reason", reason)
}

// moveToRejected moves a file out of the way, beside a text that says why. The text
// is there first, so that no file lies there without one. Where the name is taken
// by another file the ticket makes it one of its own.
func (f *Folder) moveToRejected(from *dir, file, base, ticket, reason string) error {
	err := error(unix.EEXIST)
	for _, name := range rejectedBases(base, ticket, f.layout.nameMax) {
		there, statErr := f.layout.rejected.has(name + suffix)
		if statErr != nil {
			return statErr
		}
		if there {
			continue
		}
		if err := f.layout.rejected.write(ticket, name+errorSuffix, f.explain(name, base, reason, f.origin(from))); err != nil {
			return err
		}
		failpoint.Here("dropfolder/after-error")
		err = from.moveAside(file, f.layout.rejected, name+suffix)
		if !errors.Is(err, unix.EEXIST) {
			f.dirty = true
			if err == nil {
				f.rejected.Add(1)
			}
			failpoint.Here("dropfolder/after-reject")
			return err
		}
	}
	return err
}

// origin is where those put a file that was rejected from a directory. A request that is
// moved to pending/ would be taken for a task.
func (f *Folder) origin(from *dir) *dir {
	if from == f.layout.taken {
		return f.layout.pending
	}
	return from
}

// explain is the text beside a rejected file, which is mended and put back into a
// directory.
func (f *Folder) explain(name, base, reason string, back *dir) []byte {
	return fmt.Appendf(nil, "%s\n\nThis is about the file %q, which was rejected at %s and runs nothing.\nMend it, and move it back:\n\n  mv %s %s\n",
		reason, base+suffix, f.opts.Now().UTC().Format(time.RFC3339),
		shellword.Always(f.layout.rejected.path+"/"+name+suffix), shellword.Always(back.path+"/"+base+suffix))
}
