// Package doctor examines a set-up: the programs, the folders, the daemon, its
// doors, the machine and what it allows. Every check ends in findings, each with
// what was found and, where something is to be done, with how to mend it.
//
// It owns nothing and changes nothing, but for a file of its own in the queue's
// folder, which it removes at once; whatever it needs of the command line (where
// the queue is, whether the daemon answers) it is given in a Patient.
//
// All checks are made at the same time. One waits for whatever it asks no longer
// than Patience, but a file server that hangs can hold up any call to the kernel
// for ever, and no time-out reaches into that. So Examine tells of each check as
// soon as it has ended, and whoever must not hang runs it in a process of its own
// and cuts it off after Limit: what was told until then is whole, and Silent makes
// the finding of a check that said nothing. The command line does so.
//
// The table in checks.go is the list of all checks; docs/doctor.md is made of it.
package doctor
