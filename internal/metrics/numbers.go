package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// This file has the numbers without labels. Their names are a contract with
// dashboards (GET /metrics) and with programs (GetMetrics).

// totals count since the process began. They are told by the queue.
type totals struct {
	submitted, processed, completed atomic.Uint64
	jobs, jobsCompleted, jobsFailed atomic.Uint64 // of Slurm
}

// moment is what all gauges of one answer are computed from, so that they agree.
type moment struct {
	counts    task.Counts
	machine   Machine
	submitted uint64
	processed uint64
	completed uint64

	jobs, jobsCompleted, jobsFailed uint64
}

func (m *Metrics) moment() moment {
	n := moment{counts: m.opts.Counts(), machine: m.opts.Machine()}
	// Against the order in which they are added to, so that no task seems to have
	// ended before it was submitted.
	n.completed = m.totals.completed.Load()
	n.processed = m.totals.processed.Load()
	n.submitted = m.totals.submitted.Load()
	n.jobsFailed = m.totals.jobsFailed.Load()
	n.jobsCompleted = m.totals.jobsCompleted.Load()
	n.jobs = m.totals.jobs.Load()
	return n
}

// A number has a name in /metrics, or one in GetMetrics, or both. Whatever has one
// in /metrics is told by GetMetrics under that name too.
type number struct {
	name string // in /metrics; "" = it is not there
	rpc  string // its older name in GetMetrics; "" = it has none
	kind prometheus.ValueType
	help string
	of   func(moment) float64
}

var numbers = []number{
	{"env_queue_depth", "", prometheus.GaugeValue, "Tasks that wait to be started.", moment.waiting},
	{"queue_depth", "", prometheus.GaugeValue, "Tasks that wait to be started; the same as env_queue_depth.", moment.waiting},
	{"env_error_rate", "task_error_rate", prometheus.GaugeValue, "Share of the ended tasks in the queue that did not succeed, from 0 to 1.", moment.errorRate},
	{"gpu_wait_seconds", "", prometheus.GaugeValue, "How long the task at the head of the line for a GPU has waited.", func(n moment) float64 { return n.machine.GPUWait.Seconds() }},
	{"orchestrator_concurrency_limit", "concurrency_limit", prometheus.GaugeValue, "How many tasks this machine runs at once.", func(n moment) float64 { return float64(n.machine.Limit) }},
	{"orchestrator_inflight_tasks", "inflight_tasks", prometheus.GaugeValue, "Tasks that were given to a backend and have not ended.", moment.inflight},

	{"queue_tasks_submitted_total", "", prometheus.CounterValue, "Tasks that were accepted.", func(n moment) float64 { return float64(n.submitted) }},
	{"queue_tasks_processed_total", "", prometheus.CounterValue, "Tasks that ended, well or badly.", func(n moment) float64 { return float64(n.processed) }},
	{"queue_tasks_completed_total", "", prometheus.CounterValue, "Tasks that succeeded.", func(n moment) float64 { return float64(n.completed) }},
	{"slurm_jobs_submitted_total", "", prometheus.CounterValue, "Jobs that Slurm accepted.", func(n moment) float64 { return float64(n.jobs) }},
	{"slurm_jobs_completed_total", "", prometheus.CounterValue, "Jobs of Slurm that succeeded.", func(n moment) float64 { return float64(n.jobsCompleted) }},
	{"slurm_jobs_failed_total", "", prometheus.CounterValue, "Jobs of Slurm that did not succeed.", func(n moment) float64 { return float64(n.jobsFailed) }},
	{"workflows_total", "", prometheus.CounterValue, "Workflow runs that were started. Not in this release yet: 0.", notYet},
	{"events_published_total", "", prometheus.CounterValue, "Events that were handed to an event bus. Not in this release yet: 0.", notYet},

	// Those of GET /metrics have labels (dspy_tasks).
	{"", "tasks_pending", prometheus.GaugeValue, "Tasks with the status pending.", status(task.WirePending)},
	{"", "tasks_running", prometheus.GaugeValue, "Tasks with the status running.", status(task.WireRunning)},
	{"", "tasks_completed", prometheus.GaugeValue, "Tasks in the queue with the status completed.", status(task.WireCompleted)},
	{"", "tasks_failed", prometheus.GaugeValue, "Tasks in the queue with the status failed.", status(task.WireFailed)},
}

// Values returns every number without labels, under all of its names. The caller
// owns the map.
func (m *Metrics) Values() map[string]float64 {
	now := m.moment()
	out := make(map[string]float64, 2*len(numbers))
	for _, n := range numbers {
		v := n.of(now)
		for _, name := range []string{n.name, n.rpc} {
			if name != "" {
				out[name] = v
			}
		}
	}
	return out
}

func notYet(moment) float64 { return 0 }

func (n moment) waiting() float64 { return float64(n.counts.Total(task.Pending)) }

func (n moment) inflight() float64 {
	active := 0
	for _, s := range task.States {
		if s.Active() {
			active += n.counts.Total(s)
		}
	}
	return float64(active)
}

// errorRate is 0 while nothing has ended.
func (n moment) errorRate() float64 {
	failed := status(task.WireFailed)(n)
	ended := failed + status(task.WireCompleted)(n)
	if ended == 0 {
		return 0
	}
	return failed / ended
}

// status counts the tasks with one of the four statuses of the wire.
func status(wire string) func(moment) float64 {
	return func(n moment) float64 {
		sum := 0
		for _, s := range task.States {
			if s.Wire() == wire {
				sum += n.counts.Total(s)
			}
		}
		return float64(sum)
	}
}
