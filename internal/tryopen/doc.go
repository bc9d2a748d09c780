// Package tryopen tries, in a process apart, what the opening of a database is
// about to do, where the file system may not answer.
//
// A file server that hangs holds up whoever calls it, in the kernel, where no
// time-out and not even SIGKILL helps. So a child of ours, the same program with
// Arg as its first argument, goes first and announces every step before it takes
// it. When it has said nothing more for too long it is killed and not waited for,
// and the last step that it announced is the one that hangs.
//
// It owns no state. A trial that was killed may leave one empty file, of which the
// name begins with TrialFile, in the folder.
package tryopen
