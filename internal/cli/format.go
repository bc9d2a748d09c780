package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// ago says when something was, as a person would.
func ago(ns int64, now time.Time) string {
	if ns == 0 {
		return ""
	}
	t := time.Unix(0, ns)
	if d := now.Sub(t); d > -time.Second && d < 2*time.Second {
		return "just now"
	}
	return humanize.RelTime(t, now, "ago", "from now")
}

// age is ago in as few letters as it takes: "now", "5s", "1m", "3h", "12d".
func age(ns int64, now time.Time) string {
	d := now.Sub(time.Unix(0, ns))
	switch {
	case ns == 0:
		return ""
	case d < 2*time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// clock is an absolute time for people, in their zone.
func clock(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).Format("2006-01-02 15:04:05 MST")
}

// stamp is an absolute time for programs.
func stamp(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format(jsonTimeFormat)
}

// span is a duration in at most two units: "350ms", "4.2s", "3m 7s", "2d 4h", "1h".
func span(d time.Duration) string {
	d = d.Round(time.Millisecond) // as JSON and pipes have it
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return twoUnits(int(d.Seconds()), 60, "m", "s")
	case d < 24*time.Hour:
		return twoUnits(int(d.Minutes()), 60, "h", "m")
	default:
		return twoUnits(int(d.Hours()), 24, "d", "h")
	}
}

// twoUnits writes n of the smaller unit, of which so many are one of the larger.
func twoUnits(n, per int, larger, smaller string) string {
	text := strconv.Itoa(n/per) + larger
	if rest := n % per; rest != 0 {
		text += " " + strconv.Itoa(rest) + smaller
	}
	return text
}

// ran returns how long the current attempt ran, up to now if it still does.
func ran(t *pb.TaskInfo, now time.Time) time.Duration {
	start := t.GetStartedAtNs()
	switch {
	case start == 0:
		return 0
	case t.GetEndedAtNs() != 0:
		return time.Duration(t.GetEndedAtNs() - start)
	default:
		return now.Sub(time.Unix(0, start))
	}
}

// ranKnown says whether it is known how long the current attempt ran. Of one that is lost
// nobody saw the end: what is stored is when that was found out.
func ranKnown(t *pb.TaskInfo) bool {
	return t.GetStartedAtNs() != 0 && t.GetState() != task.Lost.String()
}

// ended says whether a task has ended for good.
func ended(t *pb.TaskInfo) bool {
	s, ok := task.ParseState(t.GetState())
	return ok && s.Terminal()
}

// word says what there is to say about a task in a listing.
func word(t *pb.TaskInfo) string {
	switch {
	case ended(t) && t.GetState() != task.Succeeded.String():
		return oneLine(t.GetOutcome().GetMessage())
	case ended(t):
		return ""
	case t.GetCancelAsked():
		return "is being cancelled"
	case t.GetDetail() != "":
		return oneLine(t.GetDetail())
	case t.GetHeld() != "":
		return "held: " + oneLine(t.GetHeld())
	case t.GetBlocked() > 0:
		return "waits for " + count(int64(t.GetBlocked()), "task")
	case t.GetAttempt() > 1 && t.GetState() == task.Pending.String():
		return fmt.Sprintf("attempt %d follows", t.GetAttempt())
	}
	return ""
}

// count says "1 task" and "1,000 tasks".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(n) + " " + noun + "s"
}

// parseSpan reads a duration as people write it: "90" (seconds), "1h30m", "2d".
func parseSpan(s string) (time.Duration, error) {
	bad := usagef("%q is not a duration; write 90 (seconds), 10m, 1h30m or 2d", s)
	days, rest, hasDays := strings.Cut(s, "d")
	if !hasDays {
		days, rest = "0", s
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || !(n >= 0 && n < 1e5) {
		return 0, bad
	}
	d := time.Duration(n * 24 * float64(time.Hour))
	if rest == "" && hasDays {
		return d, nil
	}
	if secs, err := strconv.ParseFloat(rest, 64); err == nil && !hasDays && secs >= 0 && secs < 1e9 {
		return time.Duration(secs * float64(time.Second)), nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 {
		return 0, bad
	}
	return d + more, nil
}

// pasteable is shellword.Join for a command that people are told to type.
func pasteable(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		if out[i] = shellword.Quote(a); strings.IndexFunc(a, actsOnTerminal) >= 0 || !utf8.ValidString(a) {
			out[i] = ansiQuote(a)
		}
	}
	return strings.Join(out, " ")
}

// ansiQuote writes a word that must not reach a terminal as it is so that bash, zsh and
// others make the same word of it: $'a\x1bb'.
func ansiQuote(s string) string {
	var b strings.Builder
	b.WriteString("$'")
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == utf8.RuneError && n <= 1, actsOnTerminal(r):
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\%03o`, c) // of three digits, so that none that follows counts
			}
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String() + "'"
}
