// Package api is the door of the orchestrator: the gRPC server on a Unix socket,
// the HTTP server, the client that our own programs use, and who may come in.
//
// It owns the translation between the wire and the domain (convert.go, one file),
// the tables of error codes (errors.go, httpproblem.go) and the rule of who may
// connect (peer.go). HTTP (http*.go) is another form of the same calls: it reads
// and writes JSON, and leaves the rest to what answers gRPC.
// What it needs of the queue, the engine and the backends it declares itself
// (ports.go).
//
// It guarantees:
//   - Before a byte of a client is interpreted, the kernel has named the client's
//     user, and only the owner of the process passes. Root is no exception.
//   - A task is answered as accepted only after the queue has said that it is on
//     disk.
//   - A stream follows the event log by index. It never delays a commit, a slow
//     reader delays only itself, and a stream that cannot continue without a gap
//     says so instead of leaving something out. Wherever it breaks, it resumes with
//     each message once.
//   - A body is one JSON object that everybody reads alike, or it is refused with
//     line and column. What clients may send, and for how long, is bounded, and so
//     is what of it is in memory on its way to the queue.
//   - A stop ends every call within a bounded time, or says that one hangs. Streams
//     end with UNAVAILABLE, and can be resumed at the index that came last.
//   - A panic ends one call, and not the daemon.
//
// Nothing here is stored. After a crash the socket of the dead process is left
// over; the next ListenUnix recognises and replaces it. Clients reconnect, and
// resume their streams by index.
package api
