// Package access decides who may come in over TCP.
//
// A Unix socket names its peer; a TCP connection does not, and on a shared host
// everybody can reach 127.0.0.1. So before a byte of a connection is read, the
// kernel is asked who owns the other end of exactly this connection. Where there
// is no such owner, beyond loopback, TLS and a token take the place of the uid.
//
// It owns:
//   - the look at the kernel's sockets (owners.go; netlink.go, else procnet.go)
//     and the judgement of what was found (judge.go);
//   - the Gate (gate.go): a listener that returns only connections of ours, each
//     with the uid of its peer;
//   - which addresses may be bound (plan.go), and which port is taken when
//     another has ours (bind.go, ports.go);
//   - the Dialer of our clients, which sends nothing to a listener of another
//     user (dial.go);
//   - certificate, key and token: their files (private.go, certificate.go,
//     token.go), and their use by gRPC (grpc.go) and HTTP (bearer.go);
//   - what a browser is refused (browser.go).
//
// It guarantees:
//   - A connection that the Gate returns was, at one instant after it had been
//     accepted, established at both ends, with an open file at the other end that
//     belongs to an allowed uid. What it carries was sent by that socket and no
//     other: both ends of a connection can only be established together.
//   - What cannot be looked up is refused. There is no way in that depends on a
//     lookup failing.
//   - A refused connection is reset with its bytes unread.
//   - Nothing listens beyond loopback without TLS and a token. Who does not show
//     the token has a place for a few seconds, and one host has few of them.
//
// Connections are kept in memory only, so there is nothing to recover after a
// crash. The files of a certificate and a token appear whole or not at all; a
// crash between the two files of a certificate is recognised when they are read.
//
// It works on Linux alone, as the rest of the product does.
package access
