package config

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ServicePort is a port of a container that is published on this host.
type ServicePort struct {
	Address   string // of the host; "" = 127.0.0.1
	Host      int    // 0 = any that is free
	Container int
	UDP       bool
}

// ServiceVolume is something of the host that a container sees.
type ServiceVolume struct {
	// Name is a volume of the engine's, Source an absolute path of the host; one of the two.
	Name, Source string
	Target       string
	ReadOnly     bool
}

func imageName(s string) bool { return s != "" && !strings.ContainsAny(s, " \t\r\n\x00") }

var userForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?$`)

func isUser(s string) bool { return s == "" || userForm.MatchString(s) }

var projectForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

func projectOrNone(s string) bool { return s == "" || projectForm.MatchString(s) }

// serviceNames is a list of services.
func serviceNames() typ[[]string] {
	return list("list of texts", `a list of names of services, none twice, such as ["zookeeper"]`, func(v value) (string, bool) {
		return v.text, v.kind == kindText && isServiceName(v.text)
	}, quote)
}

// ports is a list of "HOST:CONTAINER" with what may stand before and behind it.
func ports() typ[[]ServicePort] {
	t := list("list of texts", `a list of "HOST:CONTAINER" or "ADDRESS:HOST:CONTAINER", none twice, with /udp behind where it is not TCP, such as ["6390:6379"]; ADDRESS is one of this host's, as in 0.0.0.0 or [::1]`, func(v value) (ServicePort, bool) {
		p, ok := readPort(v.text)
		return p, v.kind == kindText && ok
	}, func(p ServicePort) string { return quote(p.String()) })
	t.plain = func(all []ServicePort) any { return strung(all) }
	return t
}

func readPort(s string) (p ServicePort, ok bool) {
	s, protocol, given := strings.Cut(s, "/")
	if given && protocol != "tcp" && protocol != "udp" {
		return p, false
	}
	p.UDP = protocol == "udp"
	host, container, ok := cutLast(s, ":")
	if !ok {
		return p, false
	}
	if address, port, ok := cutLast(host, ":"); ok {
		bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		at, err := netip.ParseAddr(bare)
		if err != nil || at.Is6() != (address == "["+bare+"]") {
			return p, false
		}
		p.Address, host = bare, port
	}
	var hostOK, containerOK bool
	p.Host, hostOK = readNumber(host, 0)
	p.Container, containerOK = readNumber(container, 1)
	return p, hostOK && containerOK
}

// readNumber reads the number of a port.
func readNumber(s string, least int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && int(n) >= least && s == strconv.FormatUint(n, 10)
}

// cutLast cuts a text at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// String is the port as the file has it.
func (p ServicePort) String() string {
	s := strconv.Itoa(p.Host) + ":" + strconv.Itoa(p.Container)
	switch {
	case strings.Contains(p.Address, ":"):
		s = "[" + p.Address + "]:" + s
	case p.Address != "":
		s = p.Address + ":" + s
	}
	if p.UDP {
		s += "/udp"
	}
	return s
}

// volumeName is what engines take as the name of a volume.
var volumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// volumes is a list of "WHAT:TARGET[:ro]".
func volumes() typ[[]ServiceVolume] {
	const allowed = `a list of "WHAT:TARGET" or "WHAT:TARGET:ro", no TARGET twice, such as ["redis_data:/data"]; WHAT is the name of a volume, or a path that begins with /, ~/ or ./, and TARGET is a path in the container that begins with /`
	of := func(b base) typ[[]ServiceVolume] {
		return list("list of texts", allowed, func(v value) (ServiceVolume, bool) {
			got, ok := b.volume(v.text)
			return got, v.kind == kindText && ok
		}, func(v ServiceVolume) string { return quote(v.String()) })
	}
	t := of(base{})
	t.read = func(v value, b base) ([]ServiceVolume, bool) {
		all, ok := of(b).read(v, b)
		for i, one := range all {
			ok = ok && !slices.ContainsFunc(all[:i], func(o ServiceVolume) bool { return o.Target == one.Target })
		}
		return all, ok
	}
	t.plain = func(all []ServiceVolume) any { return strung(all) }
	return t
}

// volume reads one; a relative path is the workspace's.
func (b base) volume(s string) (v ServiceVolume, ok bool) {
	what, rest, found := strings.Cut(s, ":")
	target, mode, moded := strings.Cut(rest, ":")
	v.Target, v.ReadOnly = filepath.Clean(target), mode == "ro"
	if !found || moded && mode != "ro" && mode != "rw" || !filepath.IsAbs(target) || v.Target == "/" || !anyText(s) {
		return v, false
	}
	if volumeName.MatchString(what) {
		v.Name = what
		return v, true
	}
	if !filepath.IsAbs(what) && !strings.HasPrefix(what, "~/") && !strings.HasPrefix(what, "./") && !strings.HasPrefix(what, "../") {
		return v, false
	}
	v.Source, ok = b.resolve(value{text: what})
	return v, ok
}

// String is the volume as the file has it.
func (v ServiceVolume) String() string {
	s := v.Name + v.Source + ":" + v.Target
	if v.ReadOnly {
		s += ":ro"
	}
	return s
}

// strung is a list as its texts.
func strung[T interface{ String() string }](all []T) []string {
	out := make([]string, len(all))
	for i, one := range all {
		out[i] = one.String()
	}
	return out
}

// words is a list of words, or one text that is taken apart.
func words() typ[[]string] {
	t := command()
	t.allowed = `a list of words such as ["redis-server", "--appendonly", "yes"], or one text with spaces between them`
	t.read = func(v value, _ base) ([]string, bool) {
		if v.kind == kindText {
			got, ok := splitWords(v.text)
			return got, ok && len(got) > 0 && anyText(v.text)
		}
		var out []string
		for _, w := range v.list {
			if w.kind != kindText || !anyText(w.text) {
				return nil, false
			}
			out = append(out, w.text)
		}
		return out, v.kind == kindList
	}
	return t
}

// splitWords parts a text into words as a shell does that knows quotes and backslashes
// and nothing else. ok is false when a quote is not closed.
func splitWords(s string) (out []string, ok bool) {
	var word strings.Builder
	var quoted rune // the quote that we are in; 0 = none
	begun, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			if quoted == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quoted != '\'':
			begun, escaped = true, true
		case r == quoted:
			quoted = 0
		case quoted == 0 && (r == '"' || r == '\''):
			begun, quoted = true, r
		case quoted == 0 && strings.ContainsRune(" \t\r\n", r):
			if begun {
				out = append(out, word.String())
				word.Reset()
			}
			begun = false
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out, quoted == 0 && !escaped
}
