// Package scheduler decides which waiting tasks start now, and says why the
// others do not.
//
// What is decided depends on the Snapshot and on the heads of the line alone: no I/O,
// no clock, no goroutine, no randomness. The engine shows its line to a Planner, head
// by head; Plan does the same with heads that are all there. Neither owns anything or
// remembers anything, so a crash cannot hurt it; the engine turns a Decision into committed facts, and if one
// of them is refused by the store the next Snapshot simply shows it.
//
// It guarantees that no placement exceeds the capacity or a class's limit; that
// the order within a shape is the order of the line; that a lone task which
// fits is placed; and that everything not placed has a reason.
package scheduler
