package queue

import (
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// verdict is what can be known of an owner by someone who has the lock of the
// database. A greater one is more in the way.
type verdict uint8

const (
	// dead: it cannot be alive, and has written its last.
	dead verdict = iota
	// deadIfSilent: it is dead unless its heartbeat is seen.
	deadIfSilent
	// replaceableIfSilent: it is most likely dead, unless its heartbeat is seen, and may be
	// replaced by someone who goes on with a copy of the database: if it is frozen, or whom
	// it followed is, that one may still write into the old one.
	replaceableIfSilent
	// unproven: it may well be alive.
	unproven
	// running: it is.
	running
)

// witness is what the verdict depends on besides the owner.
type witness struct {
	here       host.Identity
	mount      mounts.Mount
	generation int // that CURRENT names, and of which we have the lock
	runs       func(host.Process) bool
}

// judge says what is known of an owner; nil = the file names nobody.
func (w witness) judge(o *Owner) verdict {
	v := w.judgeAlone(o)
	if v < replaceableIfSilent && o != nil && o.Generation > w.generation && !w.mount.Local() {
		// It was about to go on with a copy, and did not come to put that in use. Whom it
		// followed may have been frozen in the middle of a commit, and write on.
		return replaceableIfSilent
	}
	return v
}

// judgeAlone is judge, but for those whom an owner has followed.
func (w witness) judgeAlone(o *Owner) verdict {
	switch {
	case o == nil && w.mount.Local():
		return dead
	case o == nil:
		return replaceableIfSilent // it is not dead for being silent: it may be frozen in a commit
	case o.BootID == w.here.Boot:
		return w.judgeNeighbour(o)
	case o.Generation < w.generation:
		// It was followed already, and wrote its name once more before it noticed.
		return deadIfSilent
	case w.mount.Local() && o.Host == w.here.Name && (o.Machine == w.here.Machine || o.Machine == ""):
		return dead // this machine was started anew since
	case w.mount.Local() && o.Machine == w.here.Machine:
		// It has another name since, as containers that are given its machine id do. Or it
		// was a machine of the same image, to which we serve this disk.
		return replaceableIfSilent
	case !w.mount.Local() && o.Machine == w.here.Machine && o.Host == w.here.Name:
		return deadIfSilent // started anew, unless both were cloned from one image
	default:
		// Also on a local disk. It may have been moved here, or this may be a container that
		// was made anew, with another machine id; but the disk may as well be one that we
		// serve to others (NFS, a shared folder of a virtual machine), whose locks we do not
		// see. Nothing here tells these apart.
		return unproven
	}
}

// judgeNeighbour is for an owner under the same kernel.
func (w witness) judgeNeighbour(o *Owner) verdict {
	sameTable := o.PIDs == w.here.PIDs || o.PIDs == 0 && o.Host == w.here.Name
	switch {
	case o.Generation == w.generation && !w.mount.FUSE():
		return dead // else it would have the lock, or the folder was copied; one kernel grants it once
	case sameTable && w.runs(o.process()):
		return running
	case sameTable:
		return dead
	case w.mount.FUSE():
		return replaceableIfSilent // its locks are what a program says they are
	default:
		return unproven
	}
}
