package rpc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Problem is the body of every answer that is not a success, after RFC 9457. The
// key error is what clients read that are older than that.
type Problem struct {
	OK     *bool  `json:"ok,omitempty"`
	Error  string `json:"error"`
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// httpTable is the status for each task.Code.
var httpTable = map[task.Code]int{
	task.CodeInternal:    http.StatusInternalServerError,
	task.CodeInvalid:     http.StatusBadRequest,
	task.CodeNotFound:    http.StatusNotFound,
	task.CodeConflict:    http.StatusConflict,
	task.CodeExhausted:   http.StatusTooManyRequests,
	task.CodeUnavailable: http.StatusServiceUnavailable,
	task.CodeUnsupported: http.StatusNotImplemented,
}

// httpError is a refusal with a status that no task.Code has.
type httpError struct {
	status int
	code   string // one word, for programs
	detail string
}

// Error returns the detail.
func (e *httpError) Error() string { return e.detail }

// HTTPErrorf makes a refusal with a status that no task.Code has.
func HTTPErrorf(status int, code, format string, args ...any) error {
	return &httpError{status: status, code: code, detail: fmt.Sprintf(format, args...)}
}

var errBusy = HTTPErrorf(http.StatusServiceUnavailable, "unavailable", "too many requests are being worked on; try again in a moment")

// errGivenUp answers a client that has closed its connection, which is no fault of
// ours. One that has closed its writing side alone still reads it.
var errGivenUp = &httpError{
	status: http.StatusServiceUnavailable, code: "unavailable",
	detail: "the connection was closed before the answer was there, and nothing was done; send it again, and wait for the answer",
}

// ProblemOf describes an error.
func ProblemOf(err error) Problem {
	p := Problem{Type: "about:blank", Detail: Text(err.Error())}
	own, ok := errors.AsType[*httpError](err)
	if !ok && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		own, ok = errGivenUp, true
		p.Detail = own.detail
	}
	if ok {
		p.Status, p.Code = own.status, own.code
	} else {
		code := task.CodeOf(err)
		p.Status, p.Code = cmp.Or(httpTable[code], http.StatusInternalServerError), code.String()
	}
	p.Title, p.Error = http.StatusText(p.Status), p.Detail
	return p
}

// retryAfter is how many seconds a client that was sent away should stay away.
const retryAfter = 1

// refuse answers with a problem; old says that it has to say "ok": false.
func (h *HTTP) refuse(w http.ResponseWriter, r *http.Request, err error, old bool) {
	p := ProblemOf(err)
	if old {
		p.OK = new(bool)
	}
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusInternalServerError:
		if r.Context().Err() == nil {
			h.log.Error("call failed", "method", r.Method+" "+shortened(r.URL.Path), "error", err)
		}
	}
	WriteJSON(w, p.Status, "application/problem+json", p)
}

// WriteJSON sends a whole answer. Nobody is to keep it, or to take it for
// something else than what it says it is.
func WriteJSON(w http.ResponseWriter, status int, contentType string, v any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(fmt.Sprintf("rpc: an answer cannot be written as JSON: %v", err)) // it is made of ours alone
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(b.Len()))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // when the client has gone there is nobody to tell
}

// AnswerOK sends what was asked for.
func AnswerOK(w http.ResponseWriter, v any) error {
	WriteJSON(w, http.StatusOK, "application/json", v)
	return nil
}
