package doors

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// Options say which doors are wanted, and who is let in. Logger and Teardown are needed.
type Options struct {
	GRPC, HTTP Wanted
	// AccessDir has the certificate and the token for callers beyond loopback; "" = there
	// are none.
	AccessDir string
	// MaxConns is how many connections may be open at once, through both doors; 0 = as
	// many as access.GateOptions says.
	MaxConns int
	// MetricsUIDs may read /health and /metrics beside our own user, and nothing else.
	MetricsUIDs []uint32
	Logger      *slog.Logger
	// Teardown registers how to undo what was just opened, under a name for people.
	Teardown func(name string, stop func(context.Context) error)
}

// Wanted is where a door is to be.
type Wanted struct {
	Addr   string // HOST:PORT; "" = it is off
	Key    string // of the configuration
	Source string // where that has its value from
}

// Doors are those that were opened. The zero value is of a daemon that has none.
type Doors struct {
	GRPC, HTTP Door
	Token      access.Token        // what callers over TLS have to present
	Cert       *access.Certificate // nil: nothing is served beyond loopback

	opts   Options
	owners *access.Owners
	gate   *access.Gate
}

// Door is one of them.
type Door struct {
	Wanted    Wanted
	Listeners []net.Listener // guarded; whoever serves them closes them
	Addr      string         // HOST:PORT that a program of this host dials; "" = it is shut

	name   string   // for people
	hosts  []string // by which programs may call it
	status string   // "" = it is off
}

// Status is for Health: "ok", with a port that was not the one wanted; "off"; or what is
// wrong.
func (d *Door) Status() string {
	if d.status == "" {
		return "off"
	}
	return d.status
}

// GuardHTTP puts before a handler what keeps out browsers that other sites have sent, and
// callers over TLS without the token. hosts are names by which it may be called, beside
// those of the door and of the certificate.
func (d *Doors) GuardHTTP(hosts []string) func(http.Handler) http.Handler {
	hosts = slices.Concat(hosts, d.HTTP.hosts)
	if d.Cert != nil {
		hosts = append(hosts, d.Cert.Hosts()...)
	}
	token, browser := access.TokenGuard{Token: d.Token, UID: uint32(os.Geteuid())}, access.Guard{Hosts: hosts}
	return func(next http.Handler) http.Handler { return browser.Wrap(token.Wrap(next)) }
}
