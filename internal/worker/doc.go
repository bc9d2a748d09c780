// Package worker is a worker's own half: it leases attempts from the owner of a queue,
// claims each before it begins, has a Runner run them, and reports. Run is all of it.
//
// # What it owns
//
// Its folder (lease.Folder), but for what the owner adds to it. The processes belong to
// the Runner's supervisor, which outlives a worker that is killed.
//
// # Guarantees
//
//   - Nothing begins that is not claimed. What was given on meanwhile is dropped.
//   - An end is kept, and reported again, until its owner has stored it.
//   - Before its time is over it gives back what has not begun, and ends what would not
//     end in time, as preempted.
//
// # After a crash
//
// A worker that was killed does not come back: the next is another. The owner reads in
// the folder what has begun, and how it ended.
package worker
