package rpc

import (
	"net"
	"time"
)

// logRefusedEvery is how often a line is written about connections that were
// refused. Whoever is refused must not be able to fill the disk.
const logRefusedEvery = 10 * time.Second

func (s *Server) logRefused(_ net.Conn, err error) {
	unsaid := s.unsaid.Add(1)
	if s.sayRefused.Allow() {
		s.unsaid.Add(-unsaid)
		s.log.Warn("connection refused", "error", err, "suppressed", unsaid-1)
	}
}
