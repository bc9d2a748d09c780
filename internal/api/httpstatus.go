package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// healthAnswer is the body of GET /health.
type healthAnswer struct {
	Status        string            `json:"status"`          // "ok" or "unavailable"
	Error         string            `json:"error,omitempty"` // what is down, when that is needed
	Version       string            `json:"version"`
	UptimeSeconds int64             `json:"uptime_seconds"`
	Services      map[string]string `json:"services"`
	// Paused has the paused classes: since when, by whom and why.
	Paused map[string]string `json:"paused_classes,omitempty"`
}

// getHealth answers 200 when tasks can be accepted, else 503.
func (h *HTTPServer) getHealth(w http.ResponseWriter, _ *http.Request) error {
	info := h.opts.Info()
	answer := healthAnswer{Status: "ok", Version: info.Version, Services: map[string]string{}, Paused: pausedClasses(info)}
	if !info.StartedAt.IsZero() {
		answer.UptimeSeconds = int64(h.opts.Now().Sub(info.StartedAt).Seconds())
	}
	for name, status := range info.Services {
		answer.Services[text(name)] = text(status)
	}
	if info.Healthy {
		return rpc.AnswerOK(w, answer)
	}
	answer.Status, answer.Error = "unavailable", "tasks cannot be accepted"+down(answer.Services)
	rpc.WriteJSON(w, http.StatusServiceUnavailable, "application/json", answer)
	return nil
}

func pausedClasses(info Info) map[string]string {
	out := map[string]string{}
	for _, k := range info.Classes {
		if k.Paused != nil {
			out[text(k.Name)] = text(k.Paused.String())
		}
	}
	return out
}

// down lists the services that say of themselves that they are.
func down(services map[string]string) string {
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if strings.HasPrefix(services[name], "down") {
			list.WriteString("; " + name + ": " + services[name])
		}
	}
	return list.String()
}

// getMetrics answers a scrape.
func (h *HTTPServer) getMetrics(w http.ResponseWriter, r *http.Request) error {
	h.opts.Metrics.ServeHTTP(w, r)
	return nil
}

// queueAnswer is the body of GET /queue/status. Pending and Done are those that
// there are; the others count since the daemon started.
type queueAnswer struct {
	Pending   int64 `json:"pending"`
	Done      int64 `json:"done"`
	Submitted int64 `json:"submitted"`
	Processed int64 `json:"processed"`
	Completed int64 `json:"completed"`
}

func (h *HTTPServer) getQueueStatus(w http.ResponseWriter, _ *http.Request) error {
	m := h.opts.Metrics.Values()
	return rpc.AnswerOK(w, queueAnswer{
		Pending:   int64(m["queue_depth"]),
		Done:      int64(m["tasks_completed"] + m["tasks_failed"]),
		Submitted: int64(m["queue_tasks_submitted_total"]),
		Processed: int64(m["queue_tasks_processed_total"]),
		Completed: int64(m["queue_tasks_completed_total"]),
	})
}
