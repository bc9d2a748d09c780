package config

import (
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/directive"
)

// typ is a type of settings: how a value of it is read and written.
type typ[T any] struct {
	name    string // for the documentation
	allowed string // how it is written, after "write"
	read    func(value, base) (T, bool)
	literal func(T) string // as the file has it
	plain   func(T) any    // for JSON
}

func itself[T any](v T) any { return v }

func boolean() typ[bool] {
	return typ[bool]{
		name: "true or false", allowed: "true or false",
		read:    func(v value, b base) (bool, bool) { v = b.truth(v); return v.boolean, v.kind == kindBoolean },
		literal: strconv.FormatBool, plain: itself[bool],
	}
}

// integer is a whole number.
func integer(least, most int) typ[int] {
	return typ[int]{
		name: "whole number", allowed: fmt.Sprintf("a whole number from %d to %d", least, most),
		read: func(v value, b base) (int, bool) {
			v = b.number(v)
			return int(v.integer), v.kind == kindInteger && v.integer >= int64(least) && v.integer <= int64(most)
		},
		literal: strconv.Itoa, plain: itself[int],
	}
}

// cpus is a number of CPUs, kept in thousandths; 0 is always allowed.
func cpus(least float64) typ[int64] {
	allowed := "a number from 0 to 1000000, with at most three decimals"
	if least > 0 {
		allowed = fmt.Sprintf("0, or a number from %g to 1000000 with at most three decimals", least)
	}
	literal := func(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }
	return typ[int64]{
		name: "number", allowed: allowed,
		read: func(v value, _ base) (int64, bool) {
			n := v.number
			if v.kind == kindInteger {
				n = float64(v.integer)
			}
			milli := math.Round(n * 1000)
			good := (v.kind == kindInteger || v.kind == kindNumber) && n >= 0 && n <= maxMilliCPU/1000 && math.Abs(milli-n*1000) < 1e-6
			return int64(milli), good && (n == 0 || n >= least)
		},
		literal: literal, plain: func(milli int64) any { return float64(milli) / 1000 },
	}
}

// textual is a text that allowed describes and good accepts.
func textual(allowed string, good func(string) bool) typ[string] {
	return typ[string]{
		name: "text", allowed: allowed,
		read:    func(v value, _ base) (string, bool) { return v.text, v.kind == kindText && good(v.text) },
		literal: quote, plain: itself[string],
	}
}

// oneOf is one of some words.
func oneOf(words ...string) typ[string] {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return textual("one of "+strings.Join(quoted, ", "), func(s string) bool { return slices.Contains(words, s) })
}

// path is a file or folder, "" for none. A relative one is the workspace's; in
// the file "~/" is the home.
func path() typ[string] {
	return typ[string]{
		name: "path", allowed: `a path, absolute, below the home ("~/x") or relative to the workspace`,
		read:    func(v value, b base) (string, bool) { return b.resolve(v) },
		literal: quote, plain: itself[string],
	}
}

func (b base) resolve(v value) (string, bool) {
	p := v.text
	switch {
	case v.kind != kindText || strings.ContainsRune(p, 0):
		return "", false
	case p == "" || filepath.IsAbs(p):
		return cleaned(p), true
	case b.file && strings.HasPrefix(p, "~"):
		rest, ok := strings.CutPrefix(p, "~/")
		return filepath.Join(b.home, rest), ok && b.home != ""
	default:
		return filepath.Join(b.workspace, p), true
	}
}

func cleaned(p string) string {
	if p == "" {
		return ""
	}
	return filepath.Clean(p)
}

// absolute is a path that depends on nothing.
func absolute() typ[string] {
	return typ[string]{
		name: "path", allowed: "an absolute path",
		read: func(v value, _ base) (string, bool) {
			return cleaned(v.text), v.kind == kindText && filepath.IsAbs(v.text)
		},
		literal: quote, plain: itself[string],
	}
}

// address is HOST:PORT. "none", kept as "", is for a door that is not opened.
func address() typ[string] {
	return typ[string]{
		name: "address", allowed: `HOST:PORT such as "127.0.0.1:50052", with a port from 0 (any free one) to 65535, or "none"`,
		read: func(v value, _ base) (string, bool) {
			if v.kind == kindText && v.text == none {
				return "", true
			}
			return v.text, v.kind == kindText && isAddress(v.text)
		},
		literal: func(s string) string {
			if s == "" {
				s = none
			}
			return quote(s)
		},
		plain: func(s string) any {
			if s == "" {
				return none
			}
			return s
		},
	}
}

const none = "none"

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, numErr := strconv.ParseUint(port, 10, 16)
	return err == nil && numErr == nil && port == strconv.FormatUint(n, 10) && !strings.ContainsAny(host, "/ \t\r\n\x00")
}

// list is a list of what each accepts, none of them twice.
func list[T comparable](name, allowed string, each func(value) (T, bool), literal func(T) string) typ[[]T] {
	return typ[[]T]{
		name: name, allowed: allowed,
		read: func(v value, _ base) ([]T, bool) {
			var out []T
			for _, item := range v.list {
				got, ok := each(item)
				if !ok || slices.Contains(out, got) {
					return nil, false
				}
				out = append(out, got)
			}
			return out, v.kind == kindList
		},
		literal: func(all []T) string {
			parts := make([]string, len(all))
			for i, one := range all {
				parts[i] = literal(one)
			}
			return "[" + strings.Join(parts, ", ") + "]"
		},
		plain: func(all []T) any {
			if all == nil {
				return []T{}
			}
			return all
		},
	}
}

// backends is a list of at least one backend.
func backends() typ[[]string] {
	t := list("list of texts", "a list, best first and none twice, of "+strings.Join(knownBackends, ", "), func(v value) (string, bool) {
		return v.text, v.kind == kindText && slices.Contains(knownBackends, v.text)
	}, quote)
	read := t.read
	t.read = func(v value, b base) ([]string, bool) {
		got, ok := read(v, b)
		return got, ok && len(got) > 0
	}
	return t
}

const slurmValue = "a value of an #SBATCH line: letters, digits and _.,:;+-@%/=()[]&|*!, not beginning with -"

func isSlurmValue(s string) bool { return s == "" || directive.Value(s) == nil }

// directives is a list of #SBATCH lines.
func directives() typ[[]string] {
	return list("list of texts", `a list of --name=value or --name, none twice, without those by which jobs are found (--job-name, --comment, --output, --export, --array and the like)`, func(v value) (string, bool) {
		return v.text, v.kind == kindText && directive.Line(v.text) == nil
	}, quote)
}

// texts is a list of lines.
func texts() typ[[]string] {
	return list("list of texts", `a list of lines, none twice`, func(v value) (string, bool) {
		return v.text, v.kind == kindText && v.text != "" && !strings.ContainsAny(v.text, "\x00\n")
	}, quote)
}

// hosts is a list of host names without ports.
func hosts() typ[[]string] {
	return list("list of texts", `a list of host names without ports, none twice, such as ["login1.example.org"]`, func(v value) (string, bool) {
		return v.text, v.kind == kindText && v.text != "" && !strings.ContainsAny(v.text, "/:@* \t\r\n\x00")
	}, quote)
}

// folders is a list of folders of this host.
func folders() typ[[]string] {
	t := list("list of paths", `a list of paths, absolute or below the home ("~/x"), none twice, such as ["/data"]`, func(v value) (string, bool) {
		return cleaned(v.text), v.kind == kindText && filepath.IsAbs(v.text) && anyText(v.text)
	}, quote)
	read := t.read
	t.read = func(v value, b base) ([]string, bool) {
		v.list = slices.Clone(v.list)
		for i, item := range v.list {
			if !strings.HasPrefix(item.text, "~") {
				continue
			}
			at, ok := b.resolve(item)
			if !ok || !b.file {
				return nil, false
			}
			v.list[i].text = at
		}
		return read(v, b)
	}
	return t
}

// paths is a list of files; relative ones are the workspace's.
func paths() typ[[]string] {
	t := list("list of paths", `a list of paths, absolute, below the home ("~/x") or relative to the workspace, none twice`, func(v value) (string, bool) {
		return v.text, v.kind == kindText && v.text != ""
	}, quote)
	read := t.read
	t.read = func(v value, b base) ([]string, bool) {
		v.list = slices.Clone(v.list)
		for i, item := range v.list {
			at, ok := b.resolve(item)
			if !ok {
				return nil, false
			}
			v.list[i].text = at
		}
		return read(v, b)
	}
	return t
}

// networkName says whether a text may be the name of a container network. Another
// container's network, which engines allow by "container:NAME", is not one.
func networkName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		good := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r)
		return !good
	}) < 0
}

// capabilities is a list of the kernel's, without the prefix CAP_. ALL is none: it
// would undo what they are dropped for.
func capabilities() typ[[]string] {
	return list("list of texts", `a list of capabilities without CAP_ before them, none twice and not ALL, such as ["NET_BIND_SERVICE"]`, func(v value) (string, bool) {
		good := v.text != "" && v.text != "ALL" && !strings.HasPrefix(v.text, "CAP_") && strings.Trim(v.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
		return v.text, v.kind == kindText && good
	}, quote)
}

// uids is a list of user ids.
func uids() typ[[]uint32] {
	return list("list of whole numbers", "a list of user ids, none twice, such as [1001]; id -u NAME prints one", func(v value) (uint32, bool) {
		return uint32(v.integer), v.kind == kindInteger && v.integer >= 0 && v.integer < math.MaxUint32
	}, func(n uint32) string { return strconv.FormatUint(uint64(n), 10) })
}

// command is argv, or one text for the shell.
func command() typ[[]string] {
	return typ[[]string]{
		name: "list of texts, or text", allowed: `a list of words such as ["python", "train.py"], or one text for the shell`,
		read: func(v value, _ base) ([]string, bool) {
			if v.kind == kindText {
				return []string{"/bin/sh", "-c", v.text}, strings.TrimSpace(v.text) != "" && anyText(v.text)
			}
			var argv []string
			for _, w := range v.list {
				if w.kind != kindText || !anyText(w.text) {
					return nil, false
				}
				argv = append(argv, w.text)
			}
			return argv, v.kind == kindList && len(argv) > 0 && argv[0] != ""
		},
		literal: func(argv []string) string {
			parts := make([]string, len(argv))
			for i, w := range argv {
				parts[i] = quote(w)
			}
			return "[" + strings.Join(parts, ", ") + "]"
		},
		plain: func(argv []string) any {
			if argv == nil {
				return []string{}
			}
			return argv
		},
	}
}

// quote writes a text as TOML does.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
