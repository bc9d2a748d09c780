// Package payload finds in a task's payload what is to be run.
//
// Programs that have no other way say it there: as an "execution" object, under
// flat keys such as "command", or by naming a configured task type. Every door
// takes the same payload (gRPC, HTTP, the drop folder), so the rules are here,
// once; docs/payloads.md tells users of them.
//
// A payload is read in three steps. Parse and FromText make Fields, the members
// of the object as they were given; Fields.JSON checks their size and depth, and
// writes what the program will see; Resolve reads from them what to run. One form
// decides alone: keys of the others beside it are the program's own data.
//
// It owns nothing and does no I/O. It guarantees that what it does not
// understand is refused, with the key and what to write instead, and never run as
// something else; that a refused payload leaves the spec as it was; and that text
// of a payload becomes a shell line only where that is the contract: a "command"
// given as one text. There is nothing to recover after a crash.
package payload
