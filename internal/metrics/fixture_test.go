package metrics_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/metrics"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// fixture is metrics that a real queue tells of its commits.
type fixture struct {
	t   *testing.T
	m   *metrics.Metrics
	q   *queue.Queue
	now time.Time
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Now()}
	var err error
	f.m, err = metrics.New(metrics.Options{
		Classes: []string{"cpu_short", "cpu_long"}, Version: "v1.2.3",
		Counts:  func() task.Counts { return f.q.Counts() },
		Machine: func() metrics.Machine { return metrics.Machine{Limit: 8, GPUWait: 1500 * time.Millisecond} },
		GPUs: func() []gpu.Verdict {
			return []gpu.Verdict{{
				ID: "GPU-1", State: gpu.Held, Holders: []string{"a"},
				Device: &gpu.Device{ID: "GPU-1", TotalBytes: 100, Sample: gpu.Sample{
					UsedBytes: new(int64(40)), GPUPercent: new(50), TemperatureC: new(60), PowerMilliW: new(uint64(250_000)),
				}},
			}, {ID: "GPU-2", State: gpu.Away}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.q, err = queue.Open(t.Context(), queue.Options{
		Dir: t.TempDir(), OnCommit: f.m.Committed,
		Now: func() time.Time { return f.now }, Retention: queue.Retention{Age: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.q.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) submit(id, class string, retries int) {
	f.t.Helper()
	got, err := f.q.Submit(context.Background(), []*task.Spec{{ID: id, Class: class, Argv: []string{"true"}, Dir: "/", Retries: retries}})
	if err != nil || got[0].Err != nil {
		f.t.Fatal(err, got)
	}
}

// apply does steps of a task, in one commit.
func (f *fixture) apply(id string, kinds ...task.EventKind) {
	f.t.Helper()
	t, err := f.q.Lookup(id)
	if err != nil {
		f.t.Fatal(err)
	}
	var changes []task.Change
	for _, k := range kinds {
		ev := task.Event{Kind: k, At: task.At(f.now), Attempt: t.Attempt(), Backend: "process"}
		if k == task.EventExited {
			ev.Outcome.GPU = task.GPUUse{Held: 2 * time.Second, Busy: time.Second}
		}
		if k == task.EventExited && strings.HasPrefix(id, "bad") {
			ev.Outcome.ExitCode = 1
		}
		changes = append(changes, task.Change{Seq: t.Seq, Event: ev})
	}
	got, err := f.q.Apply(context.Background(), changes)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, a := range got {
		if a.Err != nil {
			f.t.Fatal(a.Err)
		}
	}
}

var wholeRun = []task.EventKind{task.EventPlaced, task.EventLaunched, task.EventStarted, task.EventExited}

// everything makes every metric have a value.
func (f *fixture) everything() {
	f.t.Helper()
	f.submit("good-1", "cpu_short", 0)
	f.apply("good-1", wholeRun...)
	f.submit("bad-1", "cpu_long", 1)
	f.apply("bad-1", wholeRun...)
	f.submit("waits-1", "old_class", 0)
	f.m.Waited("cpu_short", time.Second)
	f.m.Dispatched(time.Millisecond)
	f.m.Ran("cpu_short", task.Succeeded, task.NoFailure, time.Second)
	f.m.RPC("orchestrator.v1.OrchestratorService/Health", "OK")
	f.m.HTTP("/tasks/{id}", http.StatusOK)
	f.m.HTTP("", http.StatusNotFound)
}

// text is what a scrape gets.
func (f *fixture) text() string {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		f.t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// families are what a scrape gets, by name.
func (f *fixture) families() map[string]*dto.MetricFamily {
	f.t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	out, err := parser.TextToMetricFamilies(strings.NewReader(f.text()))
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// value is a counter or a gauge; labels are "name=value".
func (f *fixture) value(name string, labels ...string) float64 {
	f.t.Helper()
	for _, m := range f.families()[name].GetMetric() {
		var got []string
		for _, l := range m.GetLabel() {
			got = append(got, l.GetName()+"="+l.GetValue())
		}
		if slices.Equal(got, labels) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}
