//go:build !failpoint

package failpoint

// Enabled says whether this build can die at a failpoint. It is a constant, so
// that what only serves failpoints is compiled out of ordinary builds.
const Enabled = false

// Here marks a place; in this build it does nothing.
func Here(string) {}
