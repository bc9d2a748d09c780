package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// A route is a call of the contract.
type route struct {
	method, path string
	answer       func(*HTTPServer, http.ResponseWriter, *http.Request) error
	// old says that a refusal has "ok": false, as clients of the call expect.
	old bool
}

// routes are all calls. The last part of a path that is a task's id may have
// slashes in it.
var routes = []route{
	{method: http.MethodGet, path: "/health", answer: (*HTTPServer).getHealth},
	{method: http.MethodGet, path: "/metrics", answer: (*HTTPServer).getMetrics},
	{method: http.MethodPost, path: "/queue/submit", answer: (*HTTPServer).postQueueSubmit, old: true},
	{method: http.MethodGet, path: "/queue/status", answer: (*HTTPServer).getQueueStatus},
	{method: http.MethodPost, path: "/tasks", answer: (*HTTPServer).postTasks},
	{method: http.MethodGet, path: "/tasks/{id...}", answer: (*HTTPServer).getTask},
	{method: http.MethodGet, path: "/slurm/status/{task_id...}", answer: (*HTTPServer).getSlurmStatus},

	{method: http.MethodGet, path: "/workflows", answer: noWorkflows},
	{method: http.MethodPost, path: "/workflows", answer: noWorkflows},
	{method: http.MethodGet, path: "/workflows/{id}", answer: noWorkflows},
	{method: http.MethodPut, path: "/workflows/{id}", answer: noWorkflows},
	{method: http.MethodGet, path: "/workflows/{id}/history", answer: noWorkflows},
	{method: http.MethodGet, path: "/workflows/{id}/runs", answer: noWorkflows},
	{method: http.MethodPost, path: "/workflows/{id}/runs", answer: noWorkflows},
	{method: http.MethodGet, path: "/workflow-runs/{run_id}", answer: noWorkflows},
}

// pathText is a path as the documentation writes it, from a pattern of the mux;
// "" for what is none of ours.
func pathText(pattern string) string {
	_, path, ok := strings.Cut(pattern, " ")
	if !ok {
		path = pattern
	}
	if path == "/" {
		return ""
	}
	return strings.ReplaceAll(path, "...}", "}")
}

// handler puts together what a request passes, from the outside in: it is counted,
// given a place, looked at by the guard, given a name, and answered.
func (h *HTTPServer) handler() http.Handler {
	h.mux = http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		h.mux.Handle(r.method+" "+r.path, h.answers(r))
		methods[r.path] = append(methods[r.path], r.method)
	}
	// A pattern without a method gets what none of those with one want.
	for path, allowed := range methods {
		h.mux.Handle(path, h.answers(route{answer: wrongMethod(allowed)}))
	}
	h.mux.Handle("/", h.answers(route{answer: unknownPath(slices.Sorted(maps.Keys(methods)))}))
	inner := h.named(h.mux)
	if h.opts.Guard != nil {
		inner = h.opts.Guard(inner)
	}
	return h.counted(h.bounded(inner))
}

// answers turns the error of a call into its answer.
func (h *HTTPServer) answers(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := rt.answer(h, w, r); err != nil {
			h.refuse(w, r, err, rt.old)
		}
	})
}

func wrongMethod(allowed []string) func(*HTTPServer, http.ResponseWriter, *http.Request) error {
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	return func(_ *HTTPServer, w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Allow", list)
		return httpErrorf(http.StatusMethodNotAllowed, "method_not_allowed", "%s does not take %s; it takes %s", shortened(r.URL.Path), shortened(r.Method), list)
	}
}

func unknownPath(paths []string) func(*HTTPServer, http.ResponseWriter, *http.Request) error {
	for i, p := range paths {
		paths[i] = pathText(p)
	}
	list := strings.Join(paths, ", ")
	return func(_ *HTTPServer, _ http.ResponseWriter, r *http.Request) error {
		return httpErrorf(http.StatusNotFound, "not_found", "there is no %s here; there are %s", shortened(r.URL.Path), list)
	}
}

func noWorkflows(*HTTPServer, http.ResponseWriter, *http.Request) error { return errNoWorkflows }

// shortened is a text of the client's as it is shown back to it.
func shortened(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return text(s)
}
