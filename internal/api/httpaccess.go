package api

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
)

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	code int // 0 = nothing yet
}

// WriteHeader notes the first status, which is the one that is sent.
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write begins the answer if nothing has.
func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// counted counts every request by path and status, and makes of a panic the
// failure of one request.
func (h *HTTPServer) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		_, pattern := h.mux.Handler(r)
		defer func() {
			p := recover()
			if p == nil {
				h.Server.opts.Metrics.HTTP(pathText(pattern), orDefault(rec.code, http.StatusOK))
				return
			}
			h.panicked(rec, r, p)
			h.Server.opts.Metrics.HTTP(pathText(pattern), http.StatusInternalServerError)
			panic(http.ErrAbortHandler) // the connection may be in any state: close it
		}()
		next.ServeHTTP(rec, r)
	})
}

func (h *HTTPServer) panicked(rec *recorder, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return
	}
	h.log.Error("an HTTP request panicked", "method", r.Method, "path", shortened(r.URL.Path), "panic", p, "stack", string(debug.Stack()))
	if rec.code == 0 {
		h.refuse(rec, r, httpErrorf(http.StatusInternalServerError, "internal", "this request met a fault of the orchestrator; its log has more"), false)
		_ = http.NewResponseController(rec).Flush() // before the connection is closed
	}
}

// bounded gives a request one of the places for those that are worked on, or
// sends it away at once: a line of waiting ones would only grow.
func (h *HTTPServer) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.slots <- struct{}{}:
		default:
			h.refuse(w, r, errBusy, false)
			return
		}
		defer func() { <-h.slots }()
		next.ServeHTTP(w, r)
	})
}

// named lets nobody in of whom it is not known who it is.
func (h *HTTPServer) named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := h.opts.Peer(r)
		if !ok {
			h.refuse(w, r, httpErrorf(http.StatusForbidden, "forbidden", "it is not known who sends this request, so it is refused"), false)
			return
		}
		who.Via = "http"
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, who)))
	})
}
