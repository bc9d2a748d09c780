// Package supervisorpb holds the messages between a daemon and the process
// supervisor, and the records of the supervisor's journals. supervisor.proto is
// the source; the rest is generated from it.
//
// Nothing here acts. What a message promises is said beside it in the .proto
// file; who keeps the promise after a crash is said in package process.
package supervisorpb
