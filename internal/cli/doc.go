// Package cli is the command line dspy-agent: one file per command, and what
// the commands share.
//
// It owns no state. Main is given everything that it sees of the world in an
// Env, and answers with an exit code, so that a test can run any command in its
// own process; only cmd/dspy-agent touches the real arguments, environment and
// signals. Interrupting a command is cancelling its context.
//
// It guarantees:
//   - what a script reads is stable: exit codes are one table (exit.go), JSON
//     names are one file (json.go), and docs/cli.md is rendered from both and
//     from the commands themselves by a test;
//   - what a person reads is for the place where it is read: colours, columns
//     and "3 minutes ago" on a terminal, tabs and RFC 3339 in a pipe (terminal.go);
//   - without a daemon most commands do what they are for all the same, on the queue
//     itself and through the daemon's own code (unattended.go);
//   - leaving a command changes nothing that it did not say it would: a wait
//     that is interrupted leaves the task alone.
//
// Nothing has to be recovered after a crash: a submission that was answered is
// on disk, and one that was not can be repeated, since the same id
// with the same content is the same task.
package cli
