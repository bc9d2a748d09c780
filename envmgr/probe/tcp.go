package probe

import (
	"errors"
	"os"
	"time"
)

// askTCP has its answer when the connection is there, unless a proxy may have accepted
// it. The engine's connects to the container only then, and closes at once when nothing
// listens there: the connection has to last a while, by default many times of what that
// takes.
func askTCP(p *peer, hold time.Duration) (string, error) {
	if hold == 0 {
		return "accepts connections", nil
	}
	if err := p.SetReadDeadline(time.Now().Add(hold)); err != nil {
		return "", p.lost(err)
	}
	var b [1]byte
	switch n, err := p.Read(b[:]); {
	case n > 0:
		return "accepts connections, and greets", nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "accepts connections, and keeps them open", nil
	default:
		return "", p.lost(err)
	}
}
