// Package containerinit is the first process of an attempt's container, and what it leaves
// for those who come later. Main is the process; Read and Withdraw are for the backend.
//
// # What it does
//
// It takes the attempt's claim, starts the program, passes signals on to it, buries
// orphans, appends what is printed to the attempt's log, and writes down how it ended. All
// of that goes into a folder of the host (the record), so that none of it depends on the
// container engine, which may be killed at any moment.
//
// # Guarantees
//
//   - However often an engine starts a container, and however many containers are made for
//     an attempt, its program is started at most once: link(2) makes the claim, and gives
//     it to one.
//   - What was not claimed has not begun. Withdraw takes the claim, so that it never will.
//     The program can remove or spoil its claim: what of that can be seen says that it has
//     begun (folder.go); whoever has seen it run knows it anyway.
//   - The claim is locked (flock) as long as the container lives, so that this can be seen
//     without its engine.
//   - All that was printed is in the log before the end is written down, or counted as
//     dropped, and nothing is written to it afterwards. Whatever the program left behind was
//     killed by then; what cannot die, since it waits for a device, may be there still, which
//     the backend looks for.
//   - It runs as the first process of a pid namespace or not at all: at the end it kills
//     everybody whom it sees.
//
// # After a crash
//
// A claim without an end, and without a lock: the container was killed with all that was in
// it, or the end could not be written. How far its program had come is known to the engine, if
// to anybody.
package containerinit
