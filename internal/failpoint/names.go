package failpoint

import (
	"slices"
	"sync"
)

// Env is the environment variable that arms one place.
const Env = "DSPY_FAILPOINT"

// EnvOnce names a file that the process makes before it dies. Where the file is
// there already nobody dies any more: a process that is started again with the
// same environment goes on.
const EnvOnce = "DSPY_FAILPOINT_ONCE"

var declared struct {
	sync.Mutex
	names []string
}

// Declare makes places known, so that a test can visit them all. It is called
// from the initialisation of a package variable, and returns true for it.
func Declare(names ...string) bool {
	declared.Lock()
	defer declared.Unlock()
	declared.names = append(declared.names, names...)
	return true
}

// Names lists the places that the packages of this program declared, sorted.
func Names() []string {
	declared.Lock()
	defer declared.Unlock()
	out := slices.Clone(declared.names)
	slices.Sort(out)
	return slices.Compact(out)
}
