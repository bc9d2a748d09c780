//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Enabled says whether this build can die at a failpoint. It is a constant, so
// that what only serves failpoints is compiled out of ordinary builds.
const Enabled = true

var (
	armed, armedAt = parse(os.Getenv(Env))
	hits           atomic.Int64
)

// parse splits "name:N"; without a number the first hit counts.
func parse(v string) (name string, n int64) {
	if i := strings.LastIndexByte(v, ':'); i >= 0 {
		if n, err := strconv.ParseInt(v[i+1:], 10, 64); err == nil && n > 0 {
			return v[:i], n
		}
	}
	return v, 1
}

// Here kills the process without a chance to clean up, if name is armed and
// this is the hit that was asked for.
func Here(name string) {
	if name != armed || hits.Add(1) != armedAt {
		return
	}
	if once := os.Getenv(EnvOnce); once != "" {
		f, err := os.OpenFile(once, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return // another process has died for it already
		}
		_ = f.Close()
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way; nothing more may happen meanwhile
}
