package access

import "net/http"

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
			if conn, ok := r.Context().Value(connKey{}).(*Conn); ok {
				conn.prove()
			}
			r = r.WithContext(withPeer(r.Context(), g.holder()))
		}
		next.ServeHTTP(w, r)
	})
}
