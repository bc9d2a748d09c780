package app

import (
	"net/http"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

// envHealth is the answer of GET /health.
type envHealth struct {
	Status   string            `json:"status"` // ok, or degraded: a required service is not ready
	Version  string            `json:"version"`
	Docker   string            `json:"docker"`
	Services map[string]string `json:"services"` // phase by name
}

// routes are what env-manager answers over HTTP.
func (e *envManager) routes() []rpc.Route {
	return []rpc.Route{
		{Method: http.MethodGet, Path: "/health", Answer: e.answerHealth},
		{Method: http.MethodGet, Path: "/metrics", Answer: func(w http.ResponseWriter, r *http.Request) error {
			e.meter.ServeHTTP(w, r)
			return nil
		}},
	}
}

func (e *envManager) answerHealth(w http.ResponseWriter, _ *http.Request) error {
	snap, _ := e.sup.Latest()
	h := envHealth{Status: "ok", Version: version.String(), Docker: "ok", Services: map[string]string{}}
	if snap.Away != "" {
		h.Status, h.Docker = "degraded", snap.Away
	}
	for _, one := range snap.Services {
		h.Services[one.Name] = one.Phase.String()
		if one.Required && !one.Ready() {
			h.Status = "degraded"
		}
	}
	return rpc.AnswerOK(w, h)
}
