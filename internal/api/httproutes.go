package api

import (
	"net/http"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// routes are all calls of the contract. The last part of a path that is a task's id may
// have slashes in it.
func (h *HTTPServer) routes() []rpc.Route {
	return []rpc.Route{
		{Method: http.MethodGet, Path: "/health", Answer: h.getHealth},
		{Method: http.MethodGet, Path: "/metrics", Answer: h.getMetrics},
		{Method: http.MethodPost, Path: "/queue/submit", Answer: h.postQueueSubmit, Old: true},
		{Method: http.MethodGet, Path: "/queue/status", Answer: h.getQueueStatus},
		{Method: http.MethodPost, Path: "/tasks", Answer: h.postTasks},
		{Method: http.MethodGet, Path: "/tasks/{id...}", Answer: h.getTask},
		{Method: http.MethodGet, Path: "/slurm/status/{task_id...}", Answer: h.getSlurmStatus},

		{Method: http.MethodGet, Path: "/workflows", Answer: noWorkflows},
		{Method: http.MethodPost, Path: "/workflows", Answer: noWorkflows},
		{Method: http.MethodGet, Path: "/workflows/{id}", Answer: noWorkflows},
		{Method: http.MethodPut, Path: "/workflows/{id}", Answer: noWorkflows},
		{Method: http.MethodGet, Path: "/workflows/{id}/history", Answer: noWorkflows},
		{Method: http.MethodGet, Path: "/workflows/{id}/runs", Answer: noWorkflows},
		{Method: http.MethodPost, Path: "/workflows/{id}/runs", Answer: noWorkflows},
		{Method: http.MethodGet, Path: "/workflow-runs/{run_id}", Answer: noWorkflows},
	}
}

func noWorkflows(http.ResponseWriter, *http.Request) error { return errNoWorkflows }
