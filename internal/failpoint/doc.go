// Package failpoint kills the process at a named place, so that crash tests can
// die exactly where it hurts.
//
// A package declares the names of its places when it is initialised, and calls
// Here at each of them. Without the build tag "failpoint" Here is an empty
// function that the compiler removes. With it, a process whose environment has
// DSPY_FAILPOINT=name sends itself SIGKILL when it comes to that place, and with
// DSPY_FAILPOINT=name:3 when it comes there for the third time.
//
// It owns nothing that outlives the process.
package failpoint
