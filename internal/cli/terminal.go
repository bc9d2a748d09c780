package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// screen is a stream that people or programs read, and what may be written to
// it.
type screen struct {
	w       io.Writer
	err     error // the first that writing met; nothing is written after it
	fd      int   // of the terminal; -1 when it is none
	tty     bool  // a person reads it: columns, human times, progress
	colour  bool
	unicode bool

	waits   time.Time // when something was last said about a wait that goes on; zero = none does
	waiting bool      // what was said is on the last line, which the next text replaces
}

// newScreen looks at where w leads and what the environment wants.
//
// A terminal gets colours unless NO_COLOR is set or it is a dumb one;
// CLICOLOR_FORCE gives them to anything.
func newScreen(w io.Writer, env Env) *screen {
	s := &screen{w: w, fd: -1}
	dumb := env.getenv("TERM") == "dumb"
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.fd, s.tty = int(f.Fd()), true
	}
	s.colour = s.tty && !dumb
	if v := env.getenv("CLICOLOR_FORCE"); v != "" && v != "0" {
		s.colour = true
	}
	if env.getenv("NO_COLOR") != "" {
		s.colour = false
	}
	s.unicode = s.tty && utf8Locale(env)
	return s
}

// utf8Locale follows the order in which the C library looks.
func utf8Locale(env Env) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env.getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.HasSuffix(v, "utf-8") || strings.HasSuffix(v, "utf8")
		}
	}
	return false
}

// afterCtrlC begins a new line on a terminal, which has written ^C.
func (s *screen) afterCtrlC() string {
	if s.tty {
		return "\n"
	}
	return ""
}

// size returns the terminal's columns and rows; 80 by 24 when it does not say.
func (s *screen) size() (cols, rows int) {
	if s.fd >= 0 {
		if c, r, err := term.GetSize(s.fd); err == nil && c > 0 && r > 0 {
			return c, r
		}
	}
	return 80, 24
}

// control says whether the cursor may be moved about.
func (s *screen) control() bool { return s.tty && s.colour }

// SGR codes, written by hand: a global switch of a library would be shared by
// stdout and stderr, of which one may be a pipe.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	cyan   = "36"
)

// paint returns the text in that colour, where colours are wanted.
func (s *screen) paint(colour, t string) string {
	if !s.colour || colour == "" || t == "" {
		return t
	}
	return "\x1b[" + colour + "m" + t + "\x1b[0m"
}

// stateColours are the colours of states and of statuses.
var stateColours = map[string]string{
	"pending": yellow, "assigned": cyan, "starting": cyan, "running": blue, "stopping": cyan,
	"succeeded": green, "failed": red, "cancelled": dim, "lost": red,
}

func (s *screen) state(name string) string { return s.paint(stateColours[name], name) }

// ellipsis is the mark of what was cut off.
func (s *screen) ellipsis() string {
	if s.unicode {
		return "…"
	}
	return "..."
}

// clip shortens a text to a number of columns. Colours do not count.
func (s *screen) clip(t string, cols int) string {
	if text.StringWidthWithoutEscSequences(t) <= cols {
		return t
	}
	e := s.ellipsis()
	if cols <= len(e) {
		return text.Trim(t, max(cols, 0))
	}
	return text.Trim(t, cols-text.StringWidthWithoutEscSequences(e)) + e
}

// clipMiddle shortens a text that has no colours to a number of columns, and
// keeps both of its ends.
func (s *screen) clipMiddle(t string, cols int) string {
	e := s.ellipsis()
	keep := cols - text.StringWidthWithoutEscSequences(e)
	runes := []rune(t)
	if text.StringWidthWithoutEscSequences(t) <= cols || keep < 2 || len(runes) < keep {
		return s.clip(t, cols)
	}
	return s.clip(string(runes[:keep-keep/2])+e+string(runes[len(runes)-keep/2:]), cols)
}

// Write keeps the first error, so that a command need not look after each line:
// Main looks once, at the end. Loops that would go on for ever look themselves.
func (s *screen) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.settle()
	n, err := s.w.Write(p)
	s.err = err
	return n, err
}

// printf writes to the stream; see Write for what becomes of errors.
func (s *screen) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s, format, args...)
}

// waitEvery is the least time between two words about one wait. They come every two
// seconds, or oftener.
const waitEvery = 1500 * time.Millisecond

// wait says why nothing happens: first once, and again as long as it is called. On a
// terminal that is a line that changes, and goes when anything else is written.
func (s *screen) wait(now time.Time, first, again string) {
	if !s.waits.IsZero() && now.Sub(s.waits) < waitEvery {
		return
	}
	begun := !s.waits.IsZero()
	switch cols, _ := s.size(); {
	case !begun:
		s.printf("%s\n", first)
	case s.control():
		s.printf("%s", s.clip(again, cols-1))
	default:
		s.printf("%s\n", again)
	}
	s.waits, s.waiting = now, begun && s.control()
}

// settle ends what wait has said.
func (s *screen) settle() {
	if s.waits = (time.Time{}); s.waiting {
		s.waiting = false
		s.printf("\r\x1b[K")
	}
}
