package access

import (
	"encoding/json"
	"net/http"
)

// problem answers a request with why it was refused (RFC 9457). As in all answers
// over HTTP that are no success, error is for older clients, code for programs.
func problem(w http.ResponseWriter, status int, code, detail string) {
	body, err := json.Marshal(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status,
		"detail": detail, "error": detail, "code": code,
	})
	if err != nil {
		body = nil // text and numbers alone always can be
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone misses nothing
}
