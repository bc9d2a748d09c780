package probe

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// examples is for messages.
const examples = `"http://127.0.0.1:8082/health", "tcp://:9000" or "redis://:6379"`

// ParseURL reads a probe from its text form: kind, host and port, and for http the
// path. Without a host the port is the one inside the container; without a port it
// is the usual one. "health" and "none" stand for themselves. A command has no such
// form. Its errors wrap ErrSpec.
func ParseURL(text string) (Spec, error) {
	if kind := Kind(text); kind == Health || kind == None {
		return Spec{Kind: kind}, nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return Spec{}, wrong("%q is not the URL of a probe: write it as in %s", text, examples)
	}
	kind := Kind(strings.ToLower(scheme))
	switch {
	case kind == "https":
		return Spec{}, wrong(`%q: certificates are not checked, so https is not probed: write "tcp://", or a command of kind exec`, text)
	case kind == Exec:
		return Spec{}, wrong("%q: a command is not written as a URL: give it as a list, with kind exec", text)
	case !traits[kind].address:
		return Spec{}, wrong("%q: no probe begins with %q: write it as in %s", text, scheme+"://", examples)
	}
	u, err := url.Parse(string(kind) + "://" + rest)
	if err != nil {
		return Spec{}, wrong("%q is not a URL: write it as in %s", text, examples)
	}
	return fromURL(text, kind, u)
}

func fromURL(text string, kind Kind, u *url.URL) (Spec, error) {
	s := Spec{Kind: kind, Host: u.Hostname()}
	switch {
	case u.User != nil:
		// Without the text: there is a password in it, and this is printed.
		return Spec{}, wrong("a probe does not log in: leave out what is before the @")
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return Spec{}, wrong(`%q: leave out what follows the "#"`, text)
	case kind == HTTP && (u.Path != "" || u.RawQuery != ""):
		s.Path = u.RequestURI()
	case u.Path != "" && u.Path != "/" || u.RawQuery != "":
		return Spec{}, wrong("%q: a %s probe has no path: write %q", text, kind, string(kind)+"://"+u.Host)
	}
	if isNumber(s.Host) && u.Port() == "" {
		return Spec{}, wrong("%q names a host and no port: write %q", text, string(kind)+"://:"+s.Host)
	}
	if u.Port() != "" {
		port, err := strconv.Atoi(u.Port())
		if err != nil || port == 0 {
			return Spec{}, wrong("there is no port %q: write one between 1 and 65535", u.Port())
		}
		s.Port = port
	}
	if err := s.Validate(); err != nil {
		return Spec{}, err
	}
	return s, nil
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// String is the form that ParseURL reads, without the timeout. A command is shown as
// its words.
func (s Spec) String() string {
	switch {
	case s.Kind == Exec:
		return "exec: " + plain(strings.Join(s.Command, " "))
	case !traits[s.Kind].address:
		return string(s.Kind)
	}
	host := s.Host
	switch {
	case s.Port != 0:
		host = net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	case strings.Contains(s.Host, ":"):
		host = "[" + s.Host + "]"
	}
	return string(s.Kind) + "://" + host + s.Path
}
