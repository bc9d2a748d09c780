// Package mounts tells which file system a path is on, without touching it.
//
// statfs(2) asks the file system itself, and where a file server does not answer
// the caller hangs in the kernel, where not even SIGKILL reaches it. The kernel's
// own table, /proc/self/mountinfo, says the same and never hangs. A link on the way
// is read only as long as all that leads to it is on a local file system.
//
// It owns no state, and nothing has to be done about it after a crash.
package mounts
