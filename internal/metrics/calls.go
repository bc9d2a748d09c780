package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// calls are the requests that the servers answered.
type calls struct{ grpc, http *prometheus.CounterVec }

func newCalls() calls {
	return calls{
		grpc: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dspy_grpc_requests_total", Help: "gRPC calls that ended, streams included, by the code they ended with.",
		}, []string{"method", "code"}),
		http: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dspy_http_requests_total", Help: "HTTP requests that were answered. The path is that of the documentation (/tasks/{id}), other for one that does not exist.",
		}, []string{"path", "code"}),
	}
}

func (c calls) all() []prometheus.Collector { return []prometheus.Collector{c.grpc, c.http} }

// RPC is told of a gRPC call that has ended. The method is one that the server
// has, with its service, and the code one of gRPC's names: the caller answers for
// there being few.
func (m *Metrics) RPC(method, code string) { m.calls.grpc.WithLabelValues(method, code).Inc() }

// HTTP is told of an HTTP request that was answered. The path is a pattern of the
// server's, "" when none fits.
func (m *Metrics) HTTP(path string, code int) {
	if path == "" {
		path = other
	}
	m.calls.http.WithLabelValues(path, strconv.Itoa(code)).Inc()
}
