package metrics_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/metrics"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// contract are the names that dashboards use, without labels, and the type that
// they have there.
var contract = map[string]dto.MetricType{
	"env_queue_depth": dto.MetricType_GAUGE, "queue_depth": dto.MetricType_GAUGE,
	"queue_tasks_submitted_total": dto.MetricType_COUNTER, "queue_tasks_processed_total": dto.MetricType_COUNTER,
	"queue_tasks_completed_total": dto.MetricType_COUNTER, "gpu_wait_seconds": dto.MetricType_GAUGE, "env_error_rate": dto.MetricType_GAUGE,
	"orchestrator_concurrency_limit": dto.MetricType_GAUGE, "orchestrator_inflight_tasks": dto.MetricType_GAUGE,
	"slurm_jobs_submitted_total": dto.MetricType_COUNTER, "slurm_jobs_completed_total": dto.MetricType_COUNTER, "slurm_jobs_failed_total": dto.MetricType_COUNTER,
	"workflows_total": dto.MetricType_COUNTER, "events_published_total": dto.MetricType_COUNTER,
}

func TestContract(t *testing.T) {
	f := setup(t)
	all, values := f.families(), f.m.Values()
	for name, kind := range contract {
		got := all[name]
		if got == nil || got.GetType() != kind || len(got.GetMetric()) != 1 || len(got.GetMetric()[0].GetLabel()) != 0 {
			t.Errorf("%s is %v; want one %s without labels, from the beginning", name, got, kind)
		}
		if _, ok := values[name]; !ok {
			t.Errorf("GetMetrics does not tell %s", name)
		}
	}
	for _, name := range []string{
		"env_queue_depth", "gpu_wait_seconds", "tasks_pending", "tasks_running", "tasks_completed", "tasks_failed",
		"task_error_rate", "concurrency_limit", "inflight_tasks",
	} {
		if _, ok := values[name]; !ok {
			t.Errorf("GetMetrics does not tell %s", name)
		}
	}
	if v := f.value("gpu_wait_seconds"); v != 1.5 {
		t.Errorf("gpu_wait_seconds is %v", v)
	}
	if v := values["concurrency_limit"]; v != 8 || f.value("orchestrator_concurrency_limit") != 8 {
		t.Errorf("the limit is %v", v)
	}
}

// TestOneSource holds that both doors tell the same numbers.
func TestOneSource(t *testing.T) {
	f := setup(t)
	f.everything()
	values := f.m.Values()
	for name := range contract {
		if got := f.value(name); got != values[name] {
			t.Errorf("%s is %v in /metrics, and %v in GetMetrics", name, got, values[name])
		}
	}
	for old, name := range map[string]string{"task_error_rate": "env_error_rate", "concurrency_limit": "orchestrator_concurrency_limit", "inflight_tasks": "orchestrator_inflight_tasks"} {
		if values[old] != values[name] {
			t.Errorf("%s is %v, and %s %v", old, values[old], name, values[name])
		}
	}
}

func TestLint(t *testing.T) {
	f := setup(t)
	f.everything()
	problems, err := promlint.New(strings.NewReader(f.text())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNoLabelComesFromATask(t *testing.T) {
	f := setup(t)
	f.everything()
	f.submit("bad--id", "cpu_short", 0)
	f.apply("bad--id", wholeRun...)
	f.m.Waited("made-up", time.Second)
	f.m.Ran("made-up", task.Failed, task.FailureClass(200), time.Second)
	f.m.Ran("made-up", task.Lost, task.Vanished, time.Second)
	known := map[string][]string{
		"class":   {"cpu_short", "cpu_long", "other"},
		"state":   {"pending", "assigned", "starting", "running", "stopping", "succeeded", "failed", "cancelled", "lost"},
		"outcome": {"succeeded", "cancelled", "failed", "lost", "user_error", "vanished"},
		"path":    {"/tasks/{id}", "other"},
		"method":  {"orchestrator.v1.OrchestratorService/Health"},
		"code":    {"OK", "200", "404"},
		"gpu":     {"GPU-1", "GPU-2"},
		"index":   {"0", ""},
	}
	for _, s := range []gpu.State{
		gpu.Free, gpu.Shared, gpu.Held, gpu.CoolingOff, gpu.Foreign, gpu.Prohibited, gpu.Unread, gpu.Drained, gpu.Doubted, gpu.Ill, gpu.Away, gpu.Cut,
	} {
		known["state"] = append(known["state"], string(s))
	}
	for name, family := range f.families() {
		if !strings.HasPrefix(name, "dspy_") || name == "dspy_build_info" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(known[l.GetName()], l.GetValue()) {
					t.Errorf("%s has the label %s=%q", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	for _, id := range []string{"good-1", "bad-1", "waits-1", "bad--id", "old_class", "made-up"} {
		if strings.Contains(f.text(), id) {
			t.Errorf("%s is in the metrics", id)
		}
	}
}

func TestCounts(t *testing.T) {
	f := setup(t)
	f.everything()
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"queue_tasks_submitted_total", nil, 3},
		{"queue_tasks_processed_total", nil, 1},
		{"queue_tasks_completed_total", nil, 1},
		{"env_queue_depth", nil, 2},
		{"dspy_tasks", []string{"class=cpu_short", "state=succeeded"}, 1},
		{"dspy_tasks", []string{"class=cpu_long", "state=pending"}, 1},
		{"dspy_tasks", []string{"class=cpu_long", "state=lost"}, 0},
		{"dspy_tasks", []string{"class=other", "state=pending"}, 1},
		{"dspy_task_ends_total", []string{"class=cpu_short", "outcome=succeeded"}, 1},
		{"dspy_task_retries_total", []string{"class=cpu_long"}, 1},
	} {
		if got := f.value(tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s%v is %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
	f.apply("bad-1", wholeRun...)
	if got := f.value("dspy_task_ends_total", "class=cpu_long", "outcome=user_error"); got != 1 {
		t.Errorf("got %v", got)
	}
	f.apply("bad-1", task.EventRetried)
	if got := f.value("dspy_task_retries_total", "class=cpu_long"); got != 2 {
		t.Errorf("got %v", got)
	}
	// Three submissions with one event each, three runs with four, and a retry.
	changes := f.families()["dspy_commit_changes"].GetMetric()[0].GetHistogram()
	if changes.GetSampleCount() != 7 || changes.GetSampleSum() != 16 {
		t.Errorf("%d commits with %v changes", changes.GetSampleCount(), changes.GetSampleSum())
	}
	if took := f.families()["dspy_commit_seconds"].GetMetric()[0].GetHistogram(); took.GetSampleCount() != 7 || took.GetSampleSum() <= 0 {
		t.Errorf("%d commits took %v s", took.GetSampleCount(), took.GetSampleSum())
	}
}

// TestCountersStay removes everything that was counted.
func TestCountersStay(t *testing.T) {
	f := setup(t)
	f.everything()
	before := f.families()
	f.now = f.now.Add(2 * time.Hour)
	if removed, _, err := f.q.Expire(context.Background(), task.At(f.now)); err != nil || len(removed) == 0 {
		t.Fatalf("removed %v, %v", removed, err)
	}
	if n := f.m.Values()["tasks_completed"]; n != 0 {
		t.Fatalf("%v tasks are still there", n)
	}
	for name, family := range f.families() {
		if family.GetType() != dto.MetricType_COUNTER || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		for i, m := range family.GetMetric() {
			if old := before[name].GetMetric()[i].GetCounter().GetValue(); m.GetCounter().GetValue() < old {
				t.Errorf("%s went from %v to %v", name, old, m.GetCounter().GetValue())
			}
		}
	}
}

func TestManyTellAtOnce(t *testing.T) {
	f := setup(t)
	records := []task.Record{
		{Kind: task.EventSubmitted, Class: "cpu_short", To: task.Pending},
		{Kind: task.EventExited, Class: "cpu_short", From: task.Running, To: task.Succeeded},
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				f.m.Committed(time.Millisecond, records)
				f.m.Waited("cpu_short", time.Second)
				f.m.HTTP("/health", 200)
				if v := f.m.Values(); v["queue_tasks_completed_total"] > v["queue_tasks_processed_total"] || v["queue_tasks_processed_total"] > v["queue_tasks_submitted_total"] {
					t.Errorf("more has ended than began: %v", v)
				}
			}
		})
	}
	wg.Wait()
	if got := f.value("queue_tasks_completed_total"); got != 1600 {
		t.Errorf("got %v", got)
	}
}

func TestNewNeedsItsSources(t *testing.T) {
	if _, err := metrics.New(metrics.Options{}); err == nil {
		t.Error("made metrics that can tell nothing")
	}
}

func BenchmarkCommitted(b *testing.B) {
	m, err := metrics.New(metrics.Options{
		Classes: []string{"cpu_short"}, Counts: func() task.Counts { return nil }, Machine: func() metrics.Machine { return metrics.Machine{} },
	})
	if err != nil {
		b.Fatal(err)
	}
	records := make([]task.Record, 100)
	for i := range records {
		records[i] = task.Record{Kind: task.EventExited, Class: "cpu_short", From: task.Running, To: task.Succeeded}
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Committed(time.Millisecond, records)
	}
}
