// Package rpc is what the servers of both daemons, and the clients of our own programs, have
// in common: gRPC and HTTP as they are spoken here, whatever the services are.
//
// It owns the gRPC server (server.go) and client (client.go), the Unix socket between them
// (listen.go), the HTTP server (http.go), the tables of error codes (errors.go,
// httpproblem.go) and the rule of who may connect (peer.go). What calls there are, and what
// they do, belongs to whoever registers a service or gives a Route.
//
// It guarantees:
//   - Before a byte of a client is interpreted, the kernel has named the client's
//     user, and only the owner of the process passes. Root is no exception. Who comes by
//     TLS has shown the token before more than the header of a call is read.
//   - An error keeps its code on its way over the wire, both ways.
//   - A slow reader delays only itself, and is cut off.
//   - What clients may send, and for how long, is bounded, and so is what of it is in
//     memory.
//   - A stop ends every call within a bounded time, or says that one hangs.
//   - A panic ends one call, and not the daemon.
//
// Nothing here is stored. After a crash the socket of the dead process is left
// over; the next ListenUnix recognises and replaces it. Clients reconnect.
package rpc
