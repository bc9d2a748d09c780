package rpc

import (
	"net"
	"net/http"
	"sync"
)

// newcomers are the connections on which nothing was sent yet. A browser opens
// some in advance, and a stop would wait for their first request.
type newcomers struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// note is for http.Server.ConnState.
func (n *newcomers) note(conn net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if state != http.StateNew {
		delete(n.conns, conn)
		return
	}
	if n.conns == nil {
		n.conns = map[net.Conn]struct{}{}
	}
	n.conns[conn] = struct{}{}
}

func (n *newcomers) closeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		_ = conn.Close() // its goroutine takes note
	}
}
