// Package api is the door of the orchestrator: its gRPC service, the same over HTTP, and
// the client that our own programs use. How that is served, and who may come in, is
// package rpc's.
//
// It owns the translation between the wire and the domain (convert.go, one file).
// HTTP (http*.go) is another form of the same calls: it reads
// and writes JSON, and leaves the rest to what answers gRPC.
// What it needs of the queue, the engine and the backends it declares itself
// (ports.go).
//
// It guarantees:
//   - A task is answered as accepted only after the queue has said that it is on
//     disk.
//   - A stream follows the event log by index. It never delays a commit, a slow
//     reader delays only itself, and a stream that cannot continue without a gap
//     says so instead of leaving something out. Wherever it breaks, it resumes with
//     each message once.
//   - A body is one JSON object that everybody reads alike, or it is refused with
//     line and column. What of submissions is in memory on its way to the queue is
//     bounded.
//   - At a stop streams end with UNAVAILABLE, and can be resumed at the index that came
//     last.
//
// Nothing here is stored. After a crash clients reconnect, and resume their streams by
// index.
package api
