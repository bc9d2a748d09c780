package probe

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// MinTimeout is the shortest timeout: a healthy service on a busy machine needs
// about so long, and a connection through a published port is watched for half of that.
const MinTimeout = 200 * time.Millisecond

// localhost is the only name that is understood. Others would need a name server,
// which may hang, and those of containers it does not know.
const localhost = "localhost"

// Spec says how a service is asked.
type Spec struct {
	Kind Kind
	// Host, when given, is an address on this machine: Host and Port are dialled as
	// they are. Without it Port is the one inside the container.
	Host string
	// Port is 80, 6379, 2181 or 9092 unless given, by kind; tcp has to give it.
	Port int
	// Path is of http; "/" unless given. A query may follow.
	Path string
	// Command is of exec: the program and its arguments, without a shell.
	Command []string
	// Timeout is two seconds unless given; exec has ten, and health five.
	Timeout time.Duration
}

// Validate says what is wrong, and what to write instead. Its errors wrap ErrSpec.
func (s Spec) Validate() error {
	kind, known := traits[s.Kind]
	switch {
	case s.Kind == "":
		return wrong("the probe names no kind: write one of %s", kindsInWords)
	case !known:
		return wrong("there is no probe of kind %q: write one of %s", s.Kind, kindsInWords)
	case s.Timeout != 0 && s.Timeout < MinTimeout:
		return wrong("a timeout of %v is too short for a service on a busy machine: write %v or more, or leave it out", s.Timeout, MinTimeout)
	case s.Kind == Exec && (len(s.Command) == 0 || s.Command[0] == ""):
		return wrong("an exec probe needs its command: write the program and its arguments as a list")
	case s.Kind != Exec && len(s.Command) > 0:
		return wrong("a %s probe runs no command: leave the command out, or write kind exec", s.Kind)
	case s.Kind != HTTP && s.Path != "":
		return wrong("a %s probe has no path: leave %q out, or write kind http", s.Kind, s.Path)
	case !kind.address && (s.Host != "" || s.Port != 0):
		return wrong("a %s probe connects to nothing: leave host and port out", s.Kind)
	case kind.address:
		return s.validateAddress()
	}
	return nil
}

func (s Spec) validateAddress() error {
	switch {
	case s.Port < 0 || s.Port > 65535:
		return wrong("there is no port %d: write one between 1 and 65535", s.Port)
	case s.port() == 0:
		return wrong(`a %s probe needs a port: write it, as in "%s://:9000"`, s.Kind, s.Kind)
	case !validHost(s.Host):
		return wrong("a probe asks no name server, so %q means nothing to it: write an address of this machine, as in 127.0.0.1, or no host at all, for the container's own", s.Host)
	case s.Path != "" && !validPath(s.Path):
		return wrong(`%q is not a path: write it with a slash in front, without spaces and "#", as in "/health"`, s.Path)
	}
	return nil
}

func validHost(host string) bool {
	if host == "" || host == localhost {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" // a zone has no form that survives a URL
}

func validPath(path string) bool {
	strange := func(r rune) bool {
		return r == '#' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, strange) {
		return false
	}
	_, err := url.ParseRequestURI(path)
	return err == nil
}

// port is the one given, or the usual one.
func (s Spec) port() int {
	if s.Port != 0 {
		return s.Port
	}
	return traits[s.Kind].port
}

// path is the one given, or that of the front page.
func (s Spec) path() string {
	if s.Path != "" {
		return s.Path
	}
	return "/"
}

func (s Spec) timeout() time.Duration {
	if s.Timeout != 0 {
		return s.Timeout
	}
	return traits[s.Kind].timeout
}

func wrong(format string, args ...any) error {
	return &failure{kinds: []error{ErrSpec}, text: fmt.Sprintf(format, args...)}
}
