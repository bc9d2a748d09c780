// Package payload finds in a task's payload what is to be run.
//
// Programs that have no other way say it there: under keys such as "command" or
// "timeout". Every door takes the same payload (gRPC, HTTP, the drop folder), so
// the rules are here, once.
//
// It owns nothing and does no I/O. It guarantees that what it does not
// understand is refused, with what to write instead, and never run as something
// else; and that text of a payload becomes a shell line only where that is the
// contract: a "command" given as one string. There is nothing to recover after a
// crash.
package payload
