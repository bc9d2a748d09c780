package probe

import (
	"strconv"
	"strings"
	"unicode"
)

// How much of what others say is quoted.
const (
	maxQuote = 200
	maxBytes = 48 // where it is no text
)

// plain makes text of a service fit for a line on a terminal: one line, bounded,
// nothing that moves the cursor or turns the direction of writing.
func plain(text string) string {
	text, cut := cutAt(text, maxQuote)
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if cut {
		text += "..."
	}
	return text
}

// quote shows bytes that need not be text.
func quote(b []byte) string {
	text, cut := cutAt(string(b), maxBytes)
	text = strconv.Quote(text)
	if cut {
		text += "..."
	}
	return text
}

func cutAt(text string, limit int) (string, bool) {
	if len(text) <= limit {
		return text, false
	}
	return text[:limit], true
}

// because adds a reason to a sentence, if there is one.
func because(sentence, reason string) string {
	if reason = plain(reason); reason == "" {
		return sentence
	}
	return sentence + ": " + reason
}
