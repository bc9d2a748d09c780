// Package queue is the durable queue: every task, every index over them, and the
// log of what happened, in one bbolt database that one process owns at a time.
//
// It owns the queue directory: the database (queue-000001.db), CURRENT, which
// names the database in use, owner.json, the lease of the process that has it open
// for writing, and owner.beat, its sign of life.
// It owns the order of commits and the numbering of tasks and events. It does
// not own the state machine: task.Apply moves a task, and this package runs it
// inside the transaction and keeps the indexes in step with the result.
//
// It guarantees:
//   - What Submit, Apply, Advance and Expire answer is on disk before they return.
//   - One call is one transaction: all of it is on disk, or nothing. Calls that
//     arrive together share a transaction and its fsync, yet one that fails does
//     not disturb the others.
//   - An id is accepted once. The same submission again is answered with the first
//     task, and after retention removed that, with its tombstone.
//   - A task that waits for others is released by a durable list of what is left
//     to do, so that no number of dependants makes a huge commit and no crash
//     loses one.
//   - A record that cannot be read stops its own task and nothing else, is never
//     written over, and is named by Damaged.
//   - A database file that is damaged itself is refused, or, when that shows only
//     while it is open, left alone from then on: every call returns an error that
//     matches ErrDamagedFile, and nothing crashes or hangs. An empty file is no new
//     queue where there was one.
//   - Of all processes on all hosts that see the directory one commits, also where
//     locks are granted to several. One that was followed by another, while it was
//     frozen perhaps, answers nothing any more but an error that matches ErrDeposed.
//   - Verify, Repair, Backup, Restore and Compact look after a database that nobody
//     owns, under its lock. None of them writes into a database that is there: a new
//     one is made beside it and put in use in one step, so that a crash leaves the one
//     or the other. CopyTo copies one that is in use, as it is at one moment.
//   - Cost of a commit does not depend on how many tasks wait, opening does not
//     walk them, and a waiting task takes no memory.
//   - No returned value shares memory with the database, and no read transaction
//     outlives the call that began it.
//
// After a crash, opening finds the last commit. What is kept in memory (counts,
// shapes, the newest ids, the end of the event log) is read back from small
// records, and a call that had not returned may or may not have been committed;
// submitting again under the same id tells.
//
// # Reading the source
//
// buckets.go draws the database. writer.go is the one goroutine that commits;
// batch.go is what it commits. reindex in index.go keeps the indexes true.
// line.go is how the engine looks at what waits, list.go how people do.
// idindex.go explains why ids do not sit in a B+tree. check.go says, in code,
// what a consistent database is. pages.go looks at the file before bbolt has it, and
// guard.go stands around every transaction. salvage.go reads what a damaged file still
// holds, rescue.go decides what of it is certain, and rebuild.go and revive.go make a
// new database of that; copy.go copies a queue that is in use. lease.go is who may
// commit; acquire.go, claim.go, proof.go and takeover.go are how one comes to be that.
package queue
