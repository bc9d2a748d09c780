package app

import (
	"time"

	"github.com/dspy-agent/dspy-agent/queue"
)

// Owner is what says, in the folder of a queue, who has it open.
type Owner = queue.Owner

// OwnerFile is the file that says it.
const OwnerFile = queue.OwnerFile

// WhoOwns returns who says to own the queue in a folder, who may be gone; nil where
// nobody does. The error matches fs.ErrPermission where that is not for us to know.
func WhoOwns(queueDir string) (*Owner, error) { return queue.WhoOwns(queueDir) }

// HolderPID returns the pid of the process on this host that has the queue open and
// locked; 0 if there is none, or it cannot be told.
func HolderPID(queueDir string) int { return queue.Holder(queueDir) }

// OwnerHeard returns when the owner of a queue has last shown that it is alive; zero = it
// cannot be told.
func OwnerHeard(queueDir string) time.Time { return queue.Heard(queueDir) }

// QueuePresent says whether there is anything of a queue in a folder, of whomever.
func QueuePresent(queueDir string) bool { return queue.Present(queueDir) }

// QueueOwned refuses a queue that belongs to another user; see queue.Owned.
func QueueOwned(queueDir string) error { return queue.Owned(queueDir) }
