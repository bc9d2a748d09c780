package payload

import (
	"bytes"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// text returns a text; "" when there is none.
func (o *object) text(key string) string {
	if !o.fields.has(key) {
		return ""
	}
	s, err := decodeText(o.name(key), o.fields[key])
	o.keep(err)
	return s
}

// label returns a text that is shown in lines and used as a name.
func (o *object) label(key string, limit int) string {
	s := o.text(key)
	switch {
	case len(s) > limit:
		o.fail(key, "is "+strconv.Itoa(len(s))+" bytes long", "at most "+strconv.Itoa(limit)+" are allowed")
	case !task.Printable(s):
		o.mismatch(key, "text without line ends and other control characters")
	}
	return s
}

// image returns the name of a container image.
func (o *object) image(key string) string {
	s := o.label(key, task.MaxImageBytes)
	if strings.Contains(s, " ") {
		o.mismatch(key, "the name of a container image, without spaces")
	}
	return s
}

// dir returns an absolute path.
func (o *object) dir(key string) string {
	s := o.text(key)
	if s != "" && !path.IsAbs(s) {
		o.mismatch(key, "an absolute path, such as \"/home/me/project\"")
	}
	return s
}

// cleanPath returns an absolute path in its one clean form. ".." is refused and
// not worked out: through a symbolic link it would lead elsewhere.
func (o *object) cleanPath(key string) string {
	s := o.text(key)
	if s == "" {
		return ""
	}
	if !path.IsAbs(s) || slices.Contains(strings.Split(s, "/"), "..") {
		o.mismatch(key, "an absolute path without \"..\", such as \"/data/sets\"")
		return ""
	}
	if len(s) > task.MaxPathBytes {
		o.fail(key, "is "+strconv.Itoa(len(s))+" bytes long", "no path may be longer than "+strconv.Itoa(task.MaxPathBytes))
		return ""
	}
	return path.Clean(s)
}

// decodeText reads a JSON string that is to reach the operating system.
func decodeText(name string, raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", refuse(name, "is "+clip(string(raw)), "it must be text, in quotes")
	}
	switch {
	case strings.Contains(s, "\x00"):
		return "", refuse(name, "has a NUL character", "leave it out: nothing behind it would reach the program")
	case loneSurrogate(raw):
		return "", refuse(name, "has half of a surrogate pair, which is no character", "give names that are UTF-8, and put other bytes into a file")
	}
	return s, nil
}

// loneSurrogate says whether a JSON string has half of a UTF-16 pair, as Python
// writes the bytes of a file name that is not UTF-8. Decoded it would be another
// name, without a word.
func loneSurrogate(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		first, ok := escaped(raw[i:])
		if !ok {
			i++ // a short escape: its second character begins no other
			continue
		}
		i += 5
		if !utf16.IsSurrogate(first) {
			continue
		}
		second, ok := escaped(raw[i+1:])
		if !ok || utf16.DecodeRune(first, second) == '\uFFFD' {
			return true
		}
		i += 6
	}
	return false
}

// escaped reads "\uXXXX".
func escaped(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}
