package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Options are what Metrics are made of. Counts and Machine are needed.
type Options struct {
	// Classes are the names that the label class may have, without aliases.
	Classes []string
	// Version of the program, as it tells it to people.
	Version string
	// Counts and Machine tell about the present. They are called for every scrape,
	// from any goroutine, and must be cheap.
	Counts  func() task.Counts
	Machine func() Machine
	// GPUs returns this machine's; nil = there are none. It is called as those are.
	GPUs func() []gpu.Verdict
	// Paused returns the classes that are paused; nil = none ever is. It is called as
	// those are.
	Paused func() map[string]task.Pause
}

// Machine is the present state of the machine, as far as it is told in numbers.
type Machine struct {
	// Limit is how many tasks this machine runs at once.
	Limit int
	// GPUWait is how long the task at the head of the line for a GPU has waited.
	GPUWait time.Duration
}

// Metrics are all numbers of one process. Their methods may be called by any
// goroutine.
type Metrics struct {
	opts     Options
	classes  map[string]bool
	registry *prometheus.Registry
	scrape   http.Handler

	totals  totals
	commits commits
	pace    pace
	calls   calls
}

// New makes Metrics at zero, with a registry of their own.
func New(o Options) (*Metrics, error) {
	if o.Counts == nil || o.Machine == nil {
		return nil, errors.New("metrics: Counts and Machine are needed")
	}
	m := &Metrics{opts: o, classes: map[string]bool{}, registry: prometheus.NewRegistry()}
	for _, name := range o.Classes {
		m.classes[name] = true
	}
	m.commits, m.pace, m.calls = newCommits(), newPace(), newCalls()
	all := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(o.Version),
		present{m}, gpus{m},
	}
	for _, c := range append(append(append(all, m.commits.all()...), m.pace.all()...), m.calls.all()...) {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	m.scrape = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return m, nil
}

// ServeHTTP answers a scrape with everything, in the format that was asked for.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.scrape.ServeHTTP(w, r) }

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dspy_build_info", Help: "Always 1; its labels say which build this is.",
	}, []string{"version", "go_version"})
	g.WithLabelValues(strings.ToValidUTF8(version, "?"), runtime.Version()).Set(1)
	return g
}

// other is the value of a label in place of one that nobody has foreseen. Such a
// value is never a label: there is no bound on how many there could be.
const other = "other"

func (m *Metrics) class(name string) string {
	if m.classes[name] {
		return name
	}
	return other
}
