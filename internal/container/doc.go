// Package container runs attempts in containers, through a container engine that is
// there already (internal/docker). Backend is what internal/engine calls.
//
// # What it owns
//
// The containers that carry the id of its queue, their folders beside the output of
// attempts (taskfiles.Layout.ContainerDir), and the images that waiting tasks need
// while they are fetched. No other container, network, volume or image is touched.
//
// # How an attempt goes
//
// A container is named after queue, task and attempt, and carries them as labels, so
// that it is its own claim: making it twice finds it there. One goroutine per attempt
// looks at its container and does the next step (run.go). It is woken by events, by
// time that is up, and by the engine coming back; it decides by what it sees then,
// never by the event. One that has run is never started again. A container stays until
// Forget, since it is the record of how it ended.
//
// # Guarantees
//
//   - An attempt starts at most once: a container that has ended is not started again,
//     and a second one of its name cannot be. What has not been claimed by our init has not
//     begun, and may be started again (unbegun.go); what a program makes of its record does
//     not change what was seen (recorded.go).
//   - The folder of an attempt says whose it is. What a former queue has left under the same
//     number is set aside (whose.go).
//   - The output is complete, and nothing is in it twice: our init writes it, or it is read
//     from the engine, and a position beside it says how much of it is here (output.go).
//   - What is wrong is told apart: the program's own end, lack of memory, an image that
//     cannot be had, a container that was removed by others, an engine that is away.
//   - No container is privileged, gains privileges, or has a capability that the
//     configuration does not allow.
//
// # After a crash
//
// The daemon killed: containers run on. The next Watch lists them, looks at each, and
// goes on where it stands. Time limits are kept by whoever watches; while nobody does,
// they are not, and the next Watch ends at once what is over its limit.
//
// The engine away, killed or restarted: nothing is decided before it answers again;
// then everything is looked at. Where it does not keep containers alive over its own
// restart (live-restore), they have ended by its hand, which is the machine's trouble
// and not the program's (ending.go). What it says of an end that it has not seen is not
// believed (unseen.go), nor that a container which it was starting has not run
// (halfway.go).
//
// A stop signal is noted on disk before it is sent, so that an end that it brought
// about is told from one of the program's own.
package container
