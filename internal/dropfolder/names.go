package dropfolder

import (
	"strings"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

const (
	suffix      = ".json"
	errorSuffix = ".error"
	// nameSuffix is of a file in taken/ that holds a name which is too long to stand
	// behind a ticket.
	nameSuffix = ".name"
	tempSuffix = ".tmp"

	separator = "~"
)

// eligible says whether a file of that name may be a task. Programs write under
// hidden or other names what is not to be taken yet.
func eligible(name string) bool {
	return strings.HasSuffix(name, suffix) && !strings.HasPrefix(name, ".")
}

// takenName is what a file is called in taken/. Where the base does not fit, it is
// left out, and stands in a file of its own.
func takenName(ticket, base string, nameMax int) (name string, fits bool) {
	name = ticket + separator + base + suffix
	if len(name) > nameMax {
		return ticket + separator + suffix, false
	}
	return name, true
}

// splitTaken reads a name in taken/. An empty base stands in a file of its own.
func splitTaken(name string) (ticket, base string, ok bool) {
	ticket, base, ok = strings.Cut(name, separator)
	if !ok || !isTicket(ticket) {
		return "", "", false
	}
	base, ok = strings.CutSuffix(base, suffix)
	return ticket, base, ok
}

// isTicket says whether a text is a ULID as we write them.
func isTicket(s string) bool {
	id, err := ulid.ParseStrict(s)
	return err == nil && id.String() == s
}

// tempName is what a file is called while it is being written. It is hidden, so
// nobody takes it, and of one name per ticket, so what a crash leaves behind is
// overwritten.
func tempName(ticket string) string { return "." + ticket + tempSuffix }

// ticketed is a name that nobody else has, made of one that somebody has.
func ticketed(base, ticket string, room int) string {
	tail := separator + ticket
	return clip(base, room-len(tail)) + tail
}

// clip returns as much of a name as there is room for, and no part of a character.
func clip(name string, room int) string {
	if len(name) <= room {
		return name
	}
	for room > 0 && !utf8.RuneStart(name[room]) {
		room--
	}
	return name[:max(room, 0)]
}

// rejectedBases are the names under which a file may be put into rejected/, best
// first.
func rejectedBases(base, ticket string, nameMax int) []string {
	room := nameMax - len(errorSuffix)
	return []string{clip(base, room), ticketed(base, ticket, room)}
}
