// Package workers is the backend whose place are workers: programs, mostly in Slurm jobs,
// that lease attempts, run them, and report. Backend is what internal/engine calls, and
// what workers call (lease.Owner).
//
// # What it owns
//
// The folder of all workers in the queue's spool, with a folder for each
// (lease.Folder), and the secrets by which they connect. It starts no worker.
//
// # Guarantees
//
//   - An attempt is in the ledger of one worker, on disk, before that worker hears of it.
//   - It is given to another only when the first has said that it did not begin, or when
//     its claim was taken away from it.
//   - What a worker has begun ends once, by its own word or by what its process
//     supervisor has written down, whichever comes first. It is lost only when neither
//     can come any more.
//   - What a worker that lives does not have, and has not begun, is given on: whatever goes
//     wrong with a grant on its way, none stays where nobody does anything about it.
//
// # After a crash
//
// Watch reads cards and ledgers, and goes on where each worker stands. A call through files
// that was not answered is answered then; others are repeated by their workers.
package workers
