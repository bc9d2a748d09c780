package access

import (
	"net/http"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Wrap asks for the token of HTTP requests whose sender the kernel has not named.
// The server needs ConnContext.
func (g TokenGuard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, named := PeerFrom(r.Context()); !named {
			if !g.Token.allows(r.Header.Values("Authorization")) {
				w.Header().Set("WWW-Authenticate", "Bearer")
				problem(w, http.StatusUnauthorized, "unauthenticated", tokenText)
				return
			}
			r = r.WithContext(withPeer(r.Context(), g.holder()))
		}
		next.ServeHTTP(w, r)
	})
}

// BearerTransport sends the token with every request of a client, over TLS only.
type BearerTransport struct {
	Token Token
	Base  http.RoundTripper // with ClientTLS
}

// RoundTrip sends one request.
func (b BearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper has to
		}
		return nil, task.Errorf(task.CodeInvalid, "the token is not sent to %s: it is not https", r.URL.Redacted())
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", b.Token.header())
	return b.Base.RoundTrip(r)
}
