// Package envelope reads what a JSON document asks to be run: the body of an
// HTTP request, or a file of the drop folder. What it is that a payload asks for
// is in package payload.
//
// It owns nothing and does no I/O. It guarantees that a document which different
// readers of JSON would understand differently is refused, and so is a key that
// its writer must have meant to count and that says nothing to us: no task is
// accepted as something else than was asked for. There is nothing to recover
// after a crash.
package envelope
