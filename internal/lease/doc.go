// Package lease is what the owner of a queue and its workers have in common: what they
// say to each other (Owner), and what is in the folder of a worker (Folder): its card,
// the ledger of what it was given, and the claims of what it has begun.
//
// It owns nothing. After a crash of either side the folder says who has what: a batch is
// in the ledger before it is handed out, and an attempt is claimed, once, before it
// begins.
package lease
