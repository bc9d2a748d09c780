package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// pace is how long attempts waited and ran. Tasks take milliseconds or days.
type pace struct {
	waited, ran *prometheus.HistogramVec
	dispatch    prometheus.Histogram
}

var taskBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600}

func newPace() pace {
	return pace{
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dspy_task_wait_seconds", Buckets: taskBuckets,
			Help: "How long an attempt waited for its turn until it ran, from its submission or from the end of the pause before a retry. Tasks that wait for other tasks are left out.",
		}, []string{"class"}),
		ran: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dspy_task_run_seconds", Buckets: taskBuckets,
			Help: "How long an attempt ran, whatever followed. Attempts whose end nobody saw are left out.",
		}, []string{"class", "outcome"}),
		dispatch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dspy_dispatch_seconds", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16), // to 16 s
			Help: "How long it took from the decision where an attempt runs until it ran. Attempts that were placed ahead of a free slot are left out.",
		}),
	}
}

func (p pace) all() []prometheus.Collector {
	return []prometheus.Collector{p.waited, p.ran, p.dispatch}
}

// Waited is told how long an attempt that now runs has waited for its turn.
func (m *Metrics) Waited(class string, d time.Duration) {
	m.pace.waited.WithLabelValues(m.class(class)).Observe(seconds(d))
}

// Dispatched is told how long it took from the placement of an attempt until it ran.
func (m *Metrics) Dispatched(d time.Duration) { m.pace.dispatch.Observe(seconds(d)) }

// Ran is told how an attempt ended, and how long it ran.
func (m *Metrics) Ran(class string, state task.State, failure task.FailureClass, d time.Duration) {
	m.pace.ran.WithLabelValues(m.class(class), outcome(state, failure)).Observe(seconds(d))
}

// seconds takes a clock that was set back for one that stood still.
func seconds(d time.Duration) float64 { return max(0, d.Seconds()) }
