// Package dropfolder is the door that is made of files: a task is a JSON file that
// any program puts into pending/, and its outcome a file of the same name in done/.
// docs/drop-folder.md tells users of it.
//
// # Life of a file
//
//	pending/NAME.json ──rename──► taken/TICKET~NAME.json ──► done/NAME.json
//	                                       │
//	                                       └───────────────► rejected/NAME.json, NAME.error
//
// A file in pending/ is somebody else's: it may be half-written, or replaced
// while it is looked at. It is taken when two looks, some time apart, find it
// unchanged and its JSON whole; and also when it has stayed unchanged and not whole
// for so long that nobody can be writing any more. Taking is one rename, and what
// lies in taken/ afterwards, not what was looked at before, is what counts. The
// ticket, a ULID, is the id of a task whose file names none.
//
// A file in taken/ is submitted, followed, and removed once its outcome is in
// done/; or it is moved to rejected/, with what is wrong beside it. Nothing that
// somebody else wrote is deleted otherwise.
//
// # Guarantees
//
// The rename is on disk before the task is submitted, and the outcome is before the
// file in taken/ is removed. After a crash at any point taken/ is read again.
// Submitting is idempotent by id and content, so what is there is submitted once
// more, and an outcome that is there already is written once more. Who reads done/
// can therefore see a record twice, and never misses one.
//
// A name may be used again while its first task is still running. The record under
// the name is then that of the latest file: when it ends first, the earlier ones
// are renamed in taken/ to NAME~TICKET, and so are their records in done/.
//
// Only regular files of our own uid with one link are taken, and all of it is
// done relative to open directories that nobody else can write to; while one of
// them is not like that, or was exchanged for something else, nothing is touched.
//
// # Who owns what
//
// Run owns the folder, and the goroutines that watch it and the event log: they
// have ended when it returns. There may be one Run per folder, which whoever owns
// the queue sees to. One that was frozen and followed by another owner asks before
// each round whether it still is the owner; a file that it takes all the same is
// found by its successor. Put and PutCancel are for everybody, on every host that sees
// the folder.
package dropfolder
