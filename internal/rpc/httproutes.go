package rpc

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// A Route is a call that HTTP answers.
type Route struct {
	Method, Path string
	Answer       func(http.ResponseWriter, *http.Request) error
	// Old says that a refusal has "ok": false, as clients of the call expect.
	Old bool
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
func (h *HTTP) handler(routes []Route) http.Handler {
	h.mux = http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		h.mux.Handle(r.Method+" "+r.Path, h.answers(r))
		methods[r.Path] = append(methods[r.Path], r.Method)
	}
	// A pattern without a method gets what none of those with one want.
	for path, allowed := range methods {
		h.mux.Handle(path, h.answers(Route{Answer: wrongMethod(allowed)}))
	}
	h.mux.Handle("/", h.answers(Route{Answer: unknownPath(slices.Sorted(maps.Keys(methods)))}))
	inner := h.named(h.mux)
	if h.opts.Guard != nil {
		inner = h.opts.Guard(inner)
	}
	return h.counted(h.bounded(inner))
}

// answers turns the error of a call into its answer.
func (h *HTTP) answers(rt Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := rt.Answer(w, r); err != nil {
			h.refuse(w, r, err, rt.Old)
		}
	})
}

func wrongMethod(allowed []string) func(http.ResponseWriter, *http.Request) error {
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Allow", list)
		return HTTPErrorf(http.StatusMethodNotAllowed, "method_not_allowed", "%s does not take %s; it takes %s", shortened(r.URL.Path), shortened(r.Method), list)
	}
}

func unknownPath(paths []string) func(http.ResponseWriter, *http.Request) error {
	for i, p := range paths {
		paths[i] = pathText(p)
	}
	list := strings.Join(paths, ", ")
	return func(_ http.ResponseWriter, r *http.Request) error {
		return HTTPErrorf(http.StatusNotFound, "not_found", "there is no %s here; there are %s", shortened(r.URL.Path), list)
	}
}

// shortened is a text of the client's as it is shown back to it.
func shortened(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return Text(s)
}
