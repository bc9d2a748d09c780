package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// present tells a scrape what is to be known only at that moment: the numbers
// without labels, and how many tasks there are. All come from one look.
type present struct{ *Metrics }

var tasksDesc = prometheus.NewDesc("dspy_tasks", "Tasks in the queue, by state. Those that have ended stay until retention removes them.", []string{"class", "state"}, nil)

var pausedDesc = prometheus.NewDesc("dspy_class_paused", "1 while the class is paused, so that nothing of it is started, else 0.", []string{"class"}, nil)

// numberDescs are the descriptions of numbers; nil for those that are not in
// GET /metrics.
var numberDescs = func() []*prometheus.Desc {
	out := make([]*prometheus.Desc, len(numbers))
	for i, n := range numbers {
		if n.name != "" {
			out[i] = prometheus.NewDesc(n.name, n.help, nil, nil)
		}
	}
	return out
}()

// Describe implements prometheus.Collector.
func (p present) Describe(out chan<- *prometheus.Desc) {
	out <- tasksDesc
	out <- pausedDesc
	for _, d := range numberDescs {
		if d != nil {
			out <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (p present) Collect(out chan<- prometheus.Metric) {
	now := p.moment()
	for i, n := range numbers {
		if d := numberDescs[i]; d != nil {
			out <- prometheus.MustNewConstMetric(d, n.kind, n.of(now))
		}
	}
	p.collectPaused(out)
	for class, states := range p.byClass(now.counts) {
		for _, s := range task.States {
			out <- prometheus.MustNewConstMetric(tasksDesc, prometheus.GaugeValue, float64(states[s]), class, s.String())
		}
	}
}

// collectPaused tells of the configured classes.
func (p present) collectPaused(out chan<- prometheus.Metric) {
	var paused map[string]task.Pause
	if p.opts.Paused != nil {
		paused = p.opts.Paused()
	}
	for name := range p.classes {
		v := 0.0
		if _, ok := paused[name]; ok {
			v = 1
		}
		out <- prometheus.MustNewConstMetric(pausedDesc, prometheus.GaugeValue, v, name)
	}
}

// byClass sums up under the names that the label may have. Every configured class
// is there from the beginning, with zeros: an alert on what is not there is silent.
func (p present) byClass(c task.Counts) map[string]map[task.State]int {
	out := make(map[string]map[task.State]int, len(p.classes)+1)
	for name := range p.classes {
		out[name] = map[task.State]int{}
	}
	for name, states := range c {
		name = p.class(name)
		if out[name] == nil {
			out[name] = map[task.State]int{}
		}
		for s, n := range states {
			out[name][s] += n
		}
	}
	return out
}
