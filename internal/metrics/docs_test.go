package metrics_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

const docPath = "../../docs/metrics.md"

// TestDocs renders the reference from what a scrape gets. UPDATE=1 writes it.
func TestDocs(t *testing.T) {
	f := setup(t)
	f.everything()
	want := docHead + docTable(f.families()) + docTail
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(docPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(docPath)
	if err != nil || string(got) != want {
		t.Errorf("%s differs from the metrics (%v); run: UPDATE=1 go test ./internal/metrics", docPath, err)
	}
}

func docTable(all map[string]*dto.MetricFamily) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_") {
			continue
		}
		family := all[name]
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()), strings.Join(labels, ", "), family.GetHelp())
	}
	return b.String()
}

const docHead = `# Metrics

` + "`GET /metrics`" + ` on the orchestrator's HTTP port (127.0.0.1:9097) has them in the text format of Prometheus. The numbers
without labels are also what the gRPC call ` + "`GetMetrics`" + ` tells, under the same names, and under those of older clients:
` + "`tasks_pending`, `tasks_running`, `tasks_completed`, `tasks_failed`, `task_error_rate` (`env_error_rate`),\n`concurrency_limit` (`orchestrator_concurrency_limit`), `inflight_tasks` (`orchestrator_inflight_tasks`)" + `. Both doors, and
` + "`GET /queue/status`" + `, ask one place.

Written by ` + "`UPDATE=1 go test ./internal/metrics`" + ` from the metrics themselves.

| name | type | labels | what it says |
|---|---|---|---|
`

const docTail = `
Besides, there are those of the Go runtime (` + "`go_*`" + `) and of the process (` + "`process_*`" + `).

## What happens at a restart

Gauges are read from the queue at every look, so they are right at once. Counters and histograms begin at zero with the
daemon, which ` + "`rate()` and `increase()`" + ` expect. Within the life of a daemon no counter goes backwards: they count commits
of the queue, and what retention removes stays counted. What another process has done to the queue while no daemon ran is
in the gauges and not in the counters.

## Labels

| label | values |
|---|---|
| ` + "`class`" + ` | the configured classes, aliases resolved; ` + "`other`" + ` for tasks of a class that is configured no longer |
| ` + "`state`" + ` | the nine states of [task-model.md](task-model.md) |
| ` + "`outcome`" + ` | ` + "`succeeded`, `cancelled`" + `, or the class of the failure: ` + "`user_error`, `timeout`, `out_of_memory`, `vanished`" + ` ... |
| ` + "`path`" + ` | the paths of [http.md](http.md), as they are written there; ` + "`other`" + ` for all else |
| ` + "`method`" + ` | the gRPC calls that there are |
| ` + "`code`" + ` | gRPC's name of the code, or the HTTP status |

No label has values that clients or tasks make up: ids are never among them.

## Useful questions

` + "```promql" + `
# how many tasks end per second, by how
sum by (outcome) (rate(dspy_task_ends_total[5m]))
# how long nine of ten tasks wait for their turn
histogram_quantile(0.9, sum by (class, le) (rate(dspy_task_wait_seconds_bucket[15m])))
# is the disk slow?
histogram_quantile(0.99, rate(dspy_commit_seconds_bucket[5m]))
# nothing ends, although something waits
queue_depth > 0 and rate(queue_tasks_processed_total[15m]) == 0
` + "```" + `
`
