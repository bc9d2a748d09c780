package access

import (
	"net/netip"
	"slices"
	"strings"
)

// Lacks is what is not there of what an address beyond loopback needs.
type Lacks struct{ Certificate, Token bool }

// nothing says that what is needed is there.
func (l Lacks) nothing() bool { return l == Lacks{} }

// remedy says how what is not there is made; host is one for which a certificate has to
// be, "" where the address names none. Each part refuses to replace what is there, so
// that only what is missing is named.
func (l Lacks) remedy(host string) string {
	var steps []string
	if l.Certificate {
		steps = append(steps, strings.TrimSpace("dspy-agent access tls "+host))
	}
	if l.Token {
		steps = append(steps, "dspy-agent access token")
	}
	return strings.Join(steps, " && ")
}

// missing says in words what is not there, and how it is made.
func (l Lacks) missing(host string) string {
	switch {
	case l.Certificate && l.Token:
		return "make both with: " + l.remedy(host)
	case l.Certificate:
		return "there is a token; make the certificate with: " + l.remedy(host)
	default:
		return "there is a certificate; make the token with: " + l.remedy(host)
	}
}

// ServedHosts returns the hosts of those addresses to listen at that are beyond loopback
// and name one: a certificate has to be for them. What is no address is left out.
func ServedHosts(addrs ...string) []string {
	var hosts []string
	for _, text := range addrs {
		p, err := ParsePlan(text, true)
		if err != nil || !p.TLS {
			continue
		}
		host := strings.TrimSuffix(p.Name, ".")
		if host == "" && !p.Addrs[0].IsUnspecified() {
			host = p.Addrs[0].WithZone("").String()
		}
		if host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// CheckHost returns an error where a certificate cannot be for that host.
func CheckHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil && !addr.IsUnspecified() && addr.Zone() == "" || err != nil && isHostName(host) {
		return nil
	}
	return errNoHost(host)
}
