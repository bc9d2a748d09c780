// Package doors opens the TCP listeners that a daemon has beside its Unix socket: gRPC,
// and HTTP. Both daemons open theirs here, so that both let in the same callers.
//
// It owns what comes between the configuration's addresses and listeners that can be
// served: where each is bound and whether with TLS (access.Plan), the certificate and the
// token that this needs, the gate that finds out who connects, a port that is taken, and
// what Health says of each door.
//
// The socket does all that the command line needs, so a door that cannot be opened stays
// shut and does not keep the daemon from its work: a port that is root's, a name that
// nobody knows, a certificate that has expired, a kernel that does not tell who connects.
// Why it is shut is told by Health, the start and doctor. What is wrong however the host
// is (no address; one beyond loopback, and nothing to secure it with) is a mistake of the
// configuration, and refused.
//
// It guarantees that a listener which is handed out is guarded, and that one beyond
// loopback has TLS and asks for the token.
//
// Nothing here is stored. After a crash the ports are free.
package doors
