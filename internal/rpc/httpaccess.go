package rpc

import (
	"cmp"
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
func (h *HTTP) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		_, pattern := h.mux.Handler(r)
		defer func() {
			p := recover()
			if p == nil {
				h.server.opts.Meter.HTTP(pathText(pattern), cmp.Or(rec.code, http.StatusOK))
				return
			}
			h.panicked(rec, r, p)
			h.server.opts.Meter.HTTP(pathText(pattern), http.StatusInternalServerError)
			panic(http.ErrAbortHandler) // the connection may be in any state: close it
		}()
		next.ServeHTTP(rec, r)
	})
}

func (h *HTTP) panicked(rec *recorder, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return
	}
	h.log.Error("an HTTP request panicked", "method", r.Method, "path", shortened(r.URL.Path), "panic", p, "stack", string(debug.Stack()))
	if rec.code == 0 {
		h.refuse(rec, r, HTTPErrorf(http.StatusInternalServerError, "internal", "this request met a fault of %s; its log has more", h.server.opts.Program), false)
		_ = http.NewResponseController(rec).Flush() // before the connection is closed
	}
}

// bounded gives a request one of the places for those that are worked on, or
// sends it away at once: a line of waiting ones would only grow.
func (h *HTTP) bounded(next http.Handler) http.Handler {
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
func (h *HTTP) named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := h.opts.Peer(r)
		if !ok {
			h.refuse(w, r, HTTPErrorf(http.StatusForbidden, "forbidden", "it is not known who sends this request, so it is refused"), false)
			return
		}
		who.Via = "http"
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, who)))
	})
}
