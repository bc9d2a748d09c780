package api

import (
	"context"
	"net"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// HTTPServer answers over HTTP what the contract of port 9097 asks for. What it
// does is done by a Server.
type HTTPServer struct {
	service
	http *rpc.HTTP
	// waiting has one for each request that waits for Slurm.
	waiting chan struct{}
}

// NewHTTP makes an HTTPServer that does not serve yet.
func NewHTTP(s *Server, o rpc.HTTPOptions) (h *HTTPServer, err error) {
	h = &HTTPServer{service: service{Server: s}}
	if h.http, err = rpc.NewHTTP(s.rpc, h.routes(), o); err != nil {
		return nil, err
	}
	h.waiting = make(chan struct{}, max(h.http.MaxRequests()/jobWaiters, 1))
	return h, nil
}

// Serve answers requests as rpc.HTTP does.
func (h *HTTPServer) Serve(ctx context.Context, listeners ...net.Listener) error {
	return h.http.Serve(ctx, listeners...)
}
