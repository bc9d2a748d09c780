package payload

import (
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// refuse makes the error about a key: what is wrong with it, and what to write
// instead.
func refuse(key, problem, instead string) error {
	return task.Errorf(task.CodeInvalid, "%q %s; %s", clip(key), problem, instead)
}

// maxShown is how much of what somebody wrote is repeated to them.
const maxShown = 80

// clip shortens a text for a message, and keeps it on one line.
func clip(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	s = strings.ToValidUTF8(s, "")
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}
