package access

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Guard keeps other people's web pages away from an HTTP server that trusts
// whoever can reach it: a page in the browser of our user runs as our user, so
// the kernel's word is not enough. Programs such as curl send none of what is
// looked at here, but the host.
type Guard struct {
	// Hosts are names and addresses, without port, by which the server is reached
	// beside 127.0.0.1, localhost and ::1.
	Hosts []string
}

// Wrap refuses, with 403 and the reason:
//
//   - restricted peers, but for GET and HEAD of /health and /metrics;
//   - a Host that is not ours: a foreign name can be made to point to this host
//     (DNS rebinding), and its page then counts as of the same origin;
//   - an Origin that is not the very scheme, host and port of the request;
//   - Sec-Fetch-Site other than same-origin or none; same-site as well, since all
//     ports of localhost are one site, those of other users too;
//   - OPTIONS, with which a browser asks whether another page's request may be
//     sent. It may not, and no answer ever has a header of CORS.
//
// Reading is refused like writing. The server needs ConnContext.
func (g Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := g.refuse(r); why != "" {
			problem(w, http.StatusForbidden, "forbidden", why)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// refuse returns why a request is refused, or "".
func (g Guard) refuse(r *http.Request) string {
	if p, ok := PeerFrom(r.Context()); ok && p.Restricted && !open(r) {
		return fmt.Sprintf("%s may read /health and /metrics and nothing else (metrics_allow_uids)", p)
	}
	host, ok := hostOf(r.Host)
	switch {
	case !ok || !g.knows(host):
		return fmt.Sprintf("host %q is not one of this server; use 127.0.0.1 or localhost, or configure the name", r.Host)
	case r.Method == http.MethodOptions:
		return "other pages may not send requests here, so there are no options to ask for"
	}
	for _, origin := range r.Header.Values("Origin") {
		if !sameOrigin(origin, r) {
			return fmt.Sprintf("the request comes from a page of %q, and only pages of this server may send any", origin)
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return fmt.Sprintf("the browser says that another page sent the request (Sec-Fetch-Site: %q), and only pages of this server may send any", site)
		}
	}
	return ""
}

// open says whether a request is one that restricted peers may send.
func open(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.URL.Path == "/health" || r.URL.Path == "/metrics")
}

// knows says whether a host without port is this server's.
func (g Guard) knows(host string) bool {
	if host == "127.0.0.1" || host == "::1" || host == "localhost" {
		return true
	}
	return slices.ContainsFunc(g.Hosts, func(h string) bool {
		own, ok := hostOf(bracketed(h))
		return ok && own == host
	})
}

// bracketed writes an address of IPv6 as it stands before a port.
func bracketed(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		return "[" + host + "]"
	}
	return host
}

// hostOf returns the host of "host", "host:port" or "[::1]:port", in lower case.
func hostOf(text string) (string, bool) {
	u, err := url.Parse("http://" + text)
	if err != nil || u.Host != text || u.Hostname() == "" {
		return "", false
	}
	host := strings.ToLower(u.Hostname())
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	return host, true
}

// sameOrigin says whether an Origin (RFC 6454) is that of the request itself.
func sameOrigin(origin string, r *http.Request) bool {
	scheme, port := "http", "80"
	if r.TLS != nil {
		scheme, port = "https", "443"
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != scheme || origin != u.Scheme+"://"+u.Host {
		return false
	}
	return withDefaultPort(u.Host, port) == withDefaultPort(r.Host, port)
}

// withDefaultPort returns host and port in one form, or "" for what is neither.
func withDefaultPort(host, port string) string {
	name, ok := hostOf(host)
	if !ok {
		return ""
	}
	if u, err := url.Parse("http://" + host); err == nil && u.Port() != "" {
		port = u.Port()
	}
	return name + " " + port
}
