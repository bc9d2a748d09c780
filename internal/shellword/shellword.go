// Package shellword writes texts as words of a shell: of sh, bash, zsh and others that take
// single quotes as POSIX does. Any text becomes exactly one word, the empty one included, and
// nothing in it is expanded. NUL is in no word, and is for the caller to keep out; so is what
// acts on a terminal, where people read it. Everything in it is a function, and there is
// nothing to recover after a crash.
package shellword

import "strings"

// Always quotes a word, for a shell to read.
func Always(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Quote quotes a word as a person would who types it: only where that is needed.
func Quote(s string) string {
	if s != "" && strings.IndexFunc(s, special) < 0 {
		return s
	}
	return Always(s)
}

// Join writes a command as a person would type it.
func Join(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = Quote(a)
	}
	return strings.Join(out, " ")
}

// special says that a shell may make something else of a character.
func special(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("%+,-./:=@_", r)
	return !plain
}
