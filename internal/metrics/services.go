package metrics

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Service is how a supporting service stands, in numbers.
type Service struct {
	Name, Phase   string
	Ready, Wanted bool
	Ends          int           // of late, which nobody had asked for
	ReadyAfter    time.Duration // from its start; 0 = not known
}

// Services are all numbers of env-manager. Their methods may be called by any goroutine.
type Services struct {
	calls  calls
	now    func() []Service
	scrape http.Handler
}

// NewServices makes them at zero, with a registry of their own. now is called for every
// scrape, and must be cheap.
func NewServices(version string, now func() []Service) (*Services, error) {
	m := &Services{calls: newCalls(), now: now}
	registry := prometheus.NewRegistry()
	all := []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(version), m,
	}
	for _, c := range append(all, m.calls.all()...) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	m.scrape = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return m, nil
}

// ServeHTTP answers a scrape.
func (m *Services) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.scrape.ServeHTTP(w, r) }

// RPC is told of a gRPC call that has ended.
func (m *Services) RPC(method, code string) { m.calls.grpc.WithLabelValues(method, code).Inc() }

// HTTP is told of an HTTP request that was answered.
func (m *Services) HTTP(path string, code int) {
	if path == "" {
		path = other
	}
	m.calls.http.WithLabelValues(path, strconv.Itoa(code)).Inc()
}

var (
	serviceReady  = prometheus.NewDesc("dspy_service_ready", "1 for a supporting service that answers.", []string{"service"}, nil)
	serviceWanted = prometheus.NewDesc("dspy_service_wanted", "1 for a supporting service that is to be up.", []string{"service"}, nil)
	servicePhase  = prometheus.NewDesc("dspy_service_phase", "1 for the phase that a supporting service is in.", []string{"service", "phase"}, nil)
	serviceEnds   = prometheus.NewDesc("dspy_service_recent_ends", "How often a supporting service has ended of late without being asked to.", []string{"service"}, nil)
	serviceStart  = prometheus.NewDesc("dspy_service_ready_after_seconds", "How long a supporting service took from its start until it answered.", []string{"service"}, nil)
)

// Describe tells what there is.
func (m *Services) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{serviceReady, serviceWanted, servicePhase, serviceEnds, serviceStart} {
		out <- d
	}
}

// Collect tells how it is.
func (m *Services) Collect(out chan<- prometheus.Metric) {
	for _, s := range m.now() {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		gauge(serviceReady, oneIf(s.Ready))
		gauge(serviceWanted, oneIf(s.Wanted))
		gauge(servicePhase, 1, s.Phase)
		gauge(serviceEnds, float64(s.Ends))
		if s.ReadyAfter > 0 {
			gauge(serviceStart, s.ReadyAfter.Seconds())
		}
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
