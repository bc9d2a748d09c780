package access

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Plan is where to listen, and how. A Plan without TLS names loopback alone.
type Plan struct {
	Addrs []netip.Addr // at each of these
	Name  string       // or at the addresses of this host name; only with TLS
	Port  uint16       // 0 = one that the kernel chooses, the same at all addresses
	TLS   bool
	// Warning says that less is bound than was asked for; "" when not.
	Warning string
}

// Hosts is the name that was asked for, if it was one, for Guard.Hosts.
func (p Plan) Hosts() []string {
	if p.Name == "" {
		return nil
	}
	return []string{p.Name}
}

// Loopback, as both families call it.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// ParsePlan reads an address to listen at:
//
//   - 127.0.0.1:PORT, localhost:PORT and [::1]:PORT are 127.0.0.1 and ::1, without
//     TLS; another loopback address is that one alone;
//   - :PORT, 0.0.0.0:PORT and [::]:PORT are every address when secured, else
//     loopback, with a warning;
//   - any other address or host name is that one with TLS when secured, else an
//     error with task.CodeInvalid that says how to secure it.
//
// secured says that there are a certificate and a token. Nothing is looked up.
func ParsePlan(text string, secured bool) (Plan, error) {
	if secured {
		return PlanWith(text, Lacks{})
	}
	return PlanWith(text, Lacks{Certificate: true, Token: true})
}

// PlanWith is ParsePlan where it is known what is missing; no other thing is then told
// to be made.
func PlanWith(text string, lacks Lacks) (Plan, error) {
	host, port, err := splitHostPort(text)
	if err != nil {
		return Plan{}, err
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return Plan{Addrs: []netip.Addr{loopback4, loopback6}, Port: port}, nil
	}
	addr := netip.IPv6Unspecified()
	if host != "" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return namedPlan(text, host, port, lacks)
		}
		addr = addr.Unmap()
	}
	switch {
	case addr == loopback4 || addr == loopback6:
		return Plan{Addrs: []netip.Addr{loopback4, loopback6}, Port: port}, nil
	case addr.IsLoopback():
		return Plan{Addrs: []netip.Addr{addr}, Port: port}, nil
	case lacks.nothing():
		return Plan{Addrs: []netip.Addr{addr}, Port: port, TLS: true}, nil
	case addr.IsUnspecified() && addr.Zone() == "":
		return Plan{Addrs: []netip.Addr{loopback4, loopback6}, Port: port, Warning: fmt.Sprintf(
			"%s without TLS means loopback: listening at 127.0.0.1 and ::1 only; for other hosts, run: %s", text, lacks.remedy(""))}, nil
	}
	return Plan{}, errUnsecured(text, addr.WithZone("").String(), lacks)
}

func errUnsecured(text, host string, lacks Lacks) error {
	return task.Errorf(task.CodeInvalid,
		"%q can be reached from other hosts, which needs TLS and a token; %s; or use 127.0.0.1", text, lacks.missing(host))
}

func namedPlan(text, host string, port uint16, lacks Lacks) (Plan, error) {
	if !isHostName(host) {
		return Plan{}, errAddress(text, "the host is neither an address nor a name")
	}
	if !lacks.nothing() {
		return Plan{}, errUnsecured(text, strings.TrimSuffix(host, "."), lacks)
	}
	return Plan{Name: host, Port: port, TLS: true}, nil
}

// isHostName says whether text can be a host name (RFC 1123, and the underscore
// that some have), so that what is clearly a mistake is not looked up.
func isHostName(text string) bool {
	if len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
			}) {
			return false
		}
	}
	return true
}

func splitHostPort(text string) (host string, port uint16, err error) {
	if strings.Contains(text, "://") {
		return "", 0, errAddress(text, "leave out what is before the //")
	}
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, errAddress(text, "")
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || digits[0] == '+' {
		return "", 0, errAddress(text, "the port is a number from 0 to 65535")
	}
	return host, uint16(n), nil
}

func errAddress(text, hint string) error {
	if hint != "" {
		hint = ": " + hint
	}
	return task.Errorf(task.CodeInvalid, "%q is no address to listen at%s; write HOST:PORT, such as 127.0.0.1:50052, or [::1]:50052", text, hint)
}
