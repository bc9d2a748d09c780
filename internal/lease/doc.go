// Package lease is what the owner of a queue and its workers have in common: what they
// say to each other (Owner), and what is in the folder of a worker (Folder): its card,
// the ledger of what it was given, the claims of what it has begun, and the two files through
// which it calls where there is no connection (Outbox, Inbox).
//
// It owns nothing. After a crash of either side the folder says who has what: a batch is
// in the ledger before it is handed out, and an attempt is claimed, once, before it
// begins. A part of a line or of a frame that was being written is cut off by the next that is
// written; calls that nobody has answered are seen by the next owner.
package lease
