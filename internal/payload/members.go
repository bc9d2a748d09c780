package payload

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// plainMembers takes an object apart as json.Unmarshal does, at a fraction of its
// price: every submission pays it. It leaves to it, and to its words, what is no
// object, is not UTF-8, or has an escape in a key.
func plainMembers(object []byte) (f Fields, ok bool) {
	if !json.Valid(object) || !utf8.Valid(object) {
		return nil, false
	}
	rest := bytes.TrimLeft(object, space)
	if rest[0] != '{' {
		return nil, false
	}
	f = Fields{}
	for rest = bytes.TrimLeft(rest[1:], space); rest[0] != '}'; {
		key := rest[1 : textLen(rest)-1]
		if !plain(key) {
			return nil, false
		}
		rest = bytes.TrimLeft(rest[len(key)+2:], space+":")
		n := valueLen(rest)
		f[string(key)] = rest[:n:n]
		rest = bytes.TrimLeft(rest[n:], space+",")
	}
	return f, true
}

// space is what JSON allows between its parts.
const space = " \t\r\n"

// valueLen returns how long the value is that valid JSON begins with, within an
// object.
func valueLen(v []byte) int {
	switch v[0] {
	case '"':
		return textLen(v)
	case '{', '[':
		return nestLen(v)
	default: // a number or a word
		return bytes.IndexAny(v, space+",}")
	}
}

// nestLen is valueLen for an object or an array.
func nestLen(v []byte) int {
	for i, open := 0, 0; ; i++ {
		switch v[i] {
		case '"':
			i += textLen(v[i:]) - 1
		case '{', '[':
			open++
		case '}', ']':
			if open--; open == 0 {
				return i + 1
			}
		}
	}
}

// textLen is valueLen for a string.
func textLen(v []byte) int {
	for i := 1; ; i++ {
		switch v[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// plainValue says whether a value is written as it is: a text without escapes, or a
// whole number.
func plainValue(v []byte) bool {
	if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
		return plain(v[1 : n-1])
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(v) == 1 || len(v) > 1 && v[0] != '0'
}

// plain says whether a text stands between the quotes of JSON as it is.
func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
