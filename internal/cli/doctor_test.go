package cli

import (
	"regexp"
	"strings"
	"testing"
)

// TestTerminalDoctor: columns and colours for a person, nothing wider than the
// terminal but mends, which are there to be copied.
func TestTerminalDoctor(t *testing.T) {
	f, env := startFake(t)
	f.services = map[string]string{"process": "down: no supervisor", "queue": "2 records are damaged"}
	code, screen := newTerminal(t, 60, 24).run(t, env, "doctor")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"\x1b[32mok\x1b[0m", "\x1b[33mwarning\x1b[0m", "\x1b[31mproblem\x1b[0m", "\x1b[1mparts\x1b[0m", "\x1b[1mmend:\x1b[0m dspy-agent stop, then dspy-agent start"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in %q", want, screen)
		}
	}
	plain, _, _ := strings.Cut(stripANSI(screen), "<end")
	form := regexp.MustCompile(`^((ok|note|warning|problem) +[a-z_]+ +|  +(mend: )?)\S|^dspy-agent: \d+ problems$`)
	column := -1 // where texts begin
	for line := range strings.Lines(plain) {
		line = strings.TrimSuffix(line, "\n")
		if !form.MatchString(line) || len(line) > 60 && !strings.Contains(line, "mend: ") {
			t.Errorf("the line %q", line)
		}
		at := len(regexp.MustCompile(`^(\w+ +\w+)? +`).FindString(line))
		if column < 0 {
			column = at
		}
		if at != column && !strings.HasPrefix(line, Program) {
			t.Errorf("the text begins at %d, not at %d: %q", at, column, line)
		}
	}
}
