package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// commits are what the queue's commits tell.
type commits struct {
	took, changes prometheus.Histogram
	ends, retries *prometheus.CounterVec
	held, busy    *prometheus.CounterVec // of GPUs
}

func newCommits() commits {
	return commits{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dspy_commit_seconds", Help: "How long the queue's commits took until they were on disk.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // to 3.3 s
		}),
		changes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dspy_commit_changes", Help: "How many changes of tasks shared one commit of the queue.",
			Buckets: append([]float64{0}, prometheus.ExponentialBuckets(1, 2, 14)...), // to 8192
		}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dspy_task_ends_total", Help: "Tasks that ended. The outcome is succeeded, cancelled, or the class of the failure.",
		}, []string{"class", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dspy_task_retries_total", Help: "Attempts that were followed by another, by policy or because somebody asked for it.",
		}, []string{"class"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dspy_gpu_held_seconds_total", Help: "GPU time that attempts held, counted when they end. A share counts by its part of the memory.",
		}, []string{"class"}),
		busy: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dspy_gpu_busy_seconds_total", Help: "Of dspy_gpu_held_seconds_total, in which the GPUs computed, as sampled every few seconds. Shares and MIG instances, of which that is not known, are left out.",
		}, []string{"class"}),
	}
}

func (c commits) all() []prometheus.Collector {
	return []prometheus.Collector{c.took, c.changes, c.ends, c.retries, c.held, c.busy}
}

// Committed is told of each commit of the queue: how long it took, and what is new
// in the event log. It does not keep the records. (It is for
// queue.Options.OnCommit.)
func (m *Metrics) Committed(took time.Duration, records []task.Record) {
	m.commits.took.Observe(took.Seconds())
	m.commits.changes.Observe(float64(len(records)))
	sum := tally{}
	for _, r := range records {
		m.tell(&sum, r)
	}
	m.totals.submitted.Add(sum.submitted)
	m.totals.processed.Add(sum.processed)
	m.totals.completed.Add(sum.completed)
	m.totals.jobs.Add(sum.jobs)
	m.totals.jobsCompleted.Add(sum.jobsCompleted)
	m.totals.jobsFailed.Add(sum.jobsFailed)
	for to, n := range sum.ends {
		m.commits.ends.WithLabelValues(to.class, to.outcome).Add(n)
	}
	for class, n := range sum.retries {
		m.commits.retries.WithLabelValues(class).Add(n)
	}
}

// tally sums up a commit first: most of its thousands of records count to the
// same few numbers.
type tally struct {
	submitted, processed, completed uint64
	jobs, jobsCompleted, jobsFailed uint64
	ends                            map[end]float64
	retries                         map[string]float64
}

type end struct{ class, outcome string }

// backendSlurm is the backend whose attempts are jobs of a cluster.
const backendSlurm = "slurm"

// job counts an attempt that is a job of Slurm: each is one, so that a task which was
// tried twice counts twice.
func (t *tally) job(r task.Record) {
	switch {
	case r.Kind == task.EventLaunched:
		t.jobs++
	case r.To == task.Succeeded && r.From != r.To:
		t.jobsCompleted++
	case r.To.Terminal() && r.From >= task.Starting && r.From != r.To:
		t.jobsFailed++
	}
}

func (m *Metrics) tell(sum *tally, r task.Record) {
	if r.Backend == backendSlurm {
		sum.job(r)
	}
	switch {
	case r.Kind == task.EventSubmitted:
		sum.submitted++
	case r.Again, r.Kind == task.EventRetried:
		if sum.retries == nil {
			sum.retries = map[string]float64{}
		}
		sum.retries[m.class(r.Class)]++
	}
	if g := r.Outcome.GPU; g.Held > 0 && (r.Again || r.Ended()) { // few have any
		m.commits.held.WithLabelValues(m.class(r.Class)).Add(g.Held.Seconds())
		m.commits.busy.WithLabelValues(m.class(r.Class)).Add(max(g.Busy, 0).Seconds())
	}
	if !r.Ended() {
		return
	}
	sum.processed++
	if r.To == task.Succeeded {
		sum.completed++
	}
	if sum.ends == nil {
		sum.ends = map[end]float64{}
	}
	sum.ends[end{m.class(r.Class), outcome(r.To, r.Outcome.Class)}]++
}

// outcome is the value of the label of that name: how an attempt ended, in one of
// a few words.
func outcome(s task.State, class task.FailureClass) string {
	switch {
	case s == task.Succeeded, s == task.Cancelled:
		return s.String()
	case class != task.NoFailure && int(class) <= len(task.FailureClasses()):
		return class.String()
	default:
		return s.String()
	}
}
