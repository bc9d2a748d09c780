// Package task is the domain: what a task is, which states it goes through,
// and the one function that moves it.
//
// It owns the table of edges (table.go) and Apply, the only code in the
// project that writes a task's state. The fields that Apply guards cannot be
// set from outside: a Task is made by New, changed by Apply, and read back from
// storage by Restore, which only the queue calls.
//
// It guarantees:
//   - (Attempt, State) never decreases. A report that comes late, twice or out
//     of order is answered with ErrStale and changes nothing, so nobody has to
//     remember what was reported already.
//   - An edge that is not in the table is answered with ErrIllegal.
//   - The function is pure: the same task and event give the same result. The
//     time comes in with the event, and jitter is derived from the task itself.
//
// Nothing here does I/O, reads a clock or logs. After a crash there is nothing
// to do: a Task is a value, and the store holds the last one that Apply made.
//
// docs/task-model.md is rendered from the table by a test.
package task
