// Package probe finds out whether a supporting service really answers.
//
// That a port is open proves little: the proxy of a container engine accepts
// connections to a published port before anything listens in the container, and a
// server accepts long before it has read its data. So a probe speaks the protocol
// of the service, at the container's own address where that can be reached.
//
// It owns nothing but what one call of Run needs, and guarantees:
//   - a probe ends at its timeout, and at once when its context ends;
//   - it reads a bounded part of an answer, whatever the other end sends, and what
//     it quotes of it can be printed on a terminal;
//   - when Run has returned, no goroutine, connection or file descriptor of it is
//     left;
//   - it follows no redirect, asks no name server, uses no proxy of the environment,
//     logs in nowhere and changes nothing in the service.
//
// When to probe is a Startup or a Steady, which only count. There is nothing to
// recover after a crash: whoever comes next probes again.
package probe
