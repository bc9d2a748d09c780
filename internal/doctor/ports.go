package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// door is one of the daemon's TCP addresses.
type door struct {
	name     string // for people
	part     string // what the daemon calls it
	variable string // that tells other programs where it is
	key      string // of the configuration
	wanted   string // "" = it is not opened
	has      string // where the daemon that runs has it; "" = nowhere
}

// checkPorts says of each door where it is, and who listens there.
func checkPorts(ctx context.Context, x *examination, cfg config.Config) []Finding {
	var out []Finding
	if cfg.GRPCAddr != "" {
		out = bad(Note, fmt.Sprintf("commands call %s instead of the workspace's socket (ORCHESTRATOR_GRPC_ADDR)", cfg.GRPCAddr), "unset it, or give --workspace, to use the socket")
	}
	owners, err := access.NewOwners()
	if err != nil {
		return append(out, bad(Problem, fmt.Sprintf("nobody can be let in over TCP: %s", err), `set grpc_addr and http_addr to "none"; the socket does all that commands need`)...)
	}
	defer owners.Close() //nolint:errcheck // only asked
	look := portLook{uid: x.UID, owners: owners, lacks: lackedSecrets(cfg, x), floor: x.privilegedBelow()}
	doors := []door{
		{name: "gRPC", part: partGRPC, variable: "ORCHESTRATOR_GRPC_ADDR", key: "grpc_addr", wanted: cfg.GRPCListen},
		{name: "HTTP", part: partHTTP, variable: "ORCHESTRATOR_HTTP_ADDR", key: "http_addr", wanted: cfg.HTTPListen},
	}
	if _, is := x.stranger(); is {
		return out // whose doors are no concern of ours
	}
	if o := x.liveOwner(); o != nil {
		look.running = true
		doors[0].has, doors[1].has = o.GRPC, o.HTTP
	}
	for _, d := range doors {
		out = append(out, look.at(d, x, ctx.Err)...)
	}
	return out
}

// portLook is what a look at a door needs.
type portLook struct {
	uid     int
	owners  *access.Owners
	lacks   access.Lacks // of certificate and token, usable or not
	floor   int          // ports below it are root's
	running bool         // the daemon
}

func (l portLook) at(d door, x *examination, over func() error) []Finding {
	switch {
	case over() != nil:
		return nil
	case d.wanted == "" && d.has == "":
		return good("%s: off", d.name)
	case l.running && d.has == "":
		return l.shut(d, x)
	case l.running:
		return l.open(d)
	}
	return l.planned(d)
}

// shut says why a daemon that runs has not opened a door.
func (l portLook) shut(d door, x *examination) []Finding {
	why := "the daemon was started without it, or is about to open it"
	if h, err := x.health(); err == nil && strings.HasPrefix(h.Parts[d.part], "down") {
		why = h.Parts[d.part]
	}
	return bad(Warning, fmt.Sprintf("%s: the daemon does not serve %s: %s", d.name, d.wanted, why), "dspy-agent stop and start read the configuration again; the socket works in any case")
}

// open makes sure that the daemon listens where it says, and compares that with what
// was wanted.
func (l portLook) open(d door) []Finding {
	has, err := netip.ParseAddrPort(d.has)
	if err != nil {
		return bad(Warning, fmt.Sprintf("%s: the daemon says that it listens at %q, which is no address", d.name, d.has), "")
	}
	switch uid, found := l.listener(has); {
	case !found:
		return bad(Problem, fmt.Sprintf("%s: the daemon says that it listens at %s, and nobody does", d.name, has), "dspy-agent stop, then start")
	case uid != l.uid:
		return bad(Problem, fmt.Sprintf("%s: the daemon says that it listens at %s, and %s does", d.name, has, userText(uid)), "dspy-agent stop, then start")
	}
	plan, err := access.PlanWith(d.wanted, l.lacks)
	if err != nil || plan.Port == 0 || plan.Port == has.Port() {
		return good("%s: the daemon listens at %s", d.name, has)
	}
	holder := "no longer held"
	if uid, found := l.listener(first(plan)); found {
		holder = "held by " + l.who(uid)
	}
	return bad(Warning, fmt.Sprintf("%s: port %d was taken when the daemon began (now %s); it listens at %s", d.name, plan.Port, holder, has),
		fmt.Sprintf("for programs that use the other port, set %s=%s; or free that and start the daemon again", d.variable, has))
}

// planned says whether a daemon that is started now would get its address.
func (l portLook) planned(d door) []Finding {
	plan, err := access.PlanWith(d.wanted, l.lacks)
	if err != nil {
		return bad(Problem, fmt.Sprintf("%s: %s", d.name, err), "mend "+d.key+"; the daemon does not start until then")
	}
	if plan.Port != 0 && int(plan.Port) < l.floor && l.uid != 0 {
		return bad(Problem, fmt.Sprintf("%s: port %d is for root", d.name, plan.Port), fmt.Sprintf("set %s to a port from %d up", d.key, l.floor))
	}
	var out []Finding
	if plan.Warning != "" {
		out = bad(Warning, fmt.Sprintf("%s: %s", d.name, plan.Warning), "")
	}
	for _, addr := range plan.Addrs {
		at := netip.AddrPortFrom(addr, plan.Port)
		if uid, found := l.listener(at); plan.Port != 0 && found {
			return append(out, l.held(d, plan, at, uid)...)
		}
	}
	if out == nil {
		out = good("%s: %s is free", d.name, d.wanted)
	}
	return out
}

// held is about an address that somebody has whom the daemon will meet.
func (l portLook) held(d door, plan access.Plan, at netip.AddrPort, uid int) []Finding {
	who := l.who(uid)
	if plan.TLS {
		return bad(Problem, fmt.Sprintf("%s: %s is held by %s, so the daemon will not serve it", d.name, at, who), "free the port, or set "+d.key+" to another")
	}
	return bad(Warning, fmt.Sprintf("%s: %s is held by %s; the daemon will take another port and say which", d.name, at, who),
		"nothing, if your programs ask dspy-agent status or read "+d.variable+"; else set "+d.key+" to a port that is free")
}

// who names the holder of a port.
func (l portLook) who(uid int) string {
	if uid == l.uid {
		return "another program of yours"
	}
	return userText(uid)
}

// listener returns who listens at an address.
func (l portLook) listener(at netip.AddrPort) (uid int, found bool) {
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
	}
	s, err := l.owners.Listening(at)
	return int(s.UID), err == nil
}

// first returns the first address of a plan; that of a name is not looked up.
func first(p access.Plan) netip.AddrPort {
	addr := netip.IPv4Unspecified()
	if len(p.Addrs) > 0 {
		addr = p.Addrs[0]
	}
	return netip.AddrPortFrom(addr, p.Port)
}

// privilegedBelow returns the first port that everybody may have.
func (x *examination) privilegedBelow() int {
	const usual = 1024
	text, err := os.ReadFile(x.system("/proc/sys/net/ipv4/ip_unprivileged_port_start"))
	if err != nil {
		return usual
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return usual
	}
	return n
}

// lackedSecrets says which of certificate and token are not there. Whether they can be
// used is told by another check: a door that needs them is no less secured, but shut.
func lackedSecrets(cfg config.Config, x *examination) access.Lacks {
	dir, uid := cfg.AccessDir(), uint32(x.UID)
	if dir == "" {
		return access.Lacks{Certificate: true, Token: true}
	}
	_, certErr := access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, x.Now())
	_, tokenErr := access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	return access.Lacks{Certificate: errors.Is(certErr, fs.ErrNotExist), Token: errors.Is(tokenErr, fs.ErrNotExist)}
}
