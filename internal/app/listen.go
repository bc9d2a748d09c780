package app

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// listen opens the Unix socket of this workspace.
func (a *App) listen() error {
	path := runtimedir.SocketPath(a.runtime, a.conf.QueueDir)
	l, err := rpc.ListenUnix(path)
	if err != nil {
		return fmt.Errorf("open the socket: %w", err)
	}
	a.listeners = append(a.listeners, l)
	a.sockets = append(a.sockets, path)
	a.down.push("socket "+path, func(context.Context) error {
		// The server closes its listeners itself when it has run.
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}
