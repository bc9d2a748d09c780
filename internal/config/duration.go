package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const oneDay = 24 * time.Hour

// duration is a length of time from 0 on.
func duration(most time.Duration) typ[time.Duration] {
	return typ[time.Duration]{
		name:    "duration",
		allowed: fmt.Sprintf(`a duration with its unit, such as "90s", "10m", "1h30m" or "7d", at most %q`, writeDuration(most)),
		read: func(v value, _ base) (time.Duration, bool) {
			d, ok := readDuration(v.text)
			return d, v.kind == kindText && ok && d <= most
		},
		literal: func(d time.Duration) string { return quote(writeDuration(d)) },
		plain:   func(d time.Duration) any { return writeDuration(d) },
	}
}

// readDuration reads what time.ParseDuration does, with days before it.
func readDuration(s string) (time.Duration, bool) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || !(n >= 0 && n < 100_000) || strings.ContainsAny(days, "+-eExXpP_") { // "1e3d" is a slip
		return 0, false
	}
	d := time.Duration(n * float64(oneDay))
	if found && rest == "" {
		return d, true
	}
	more, err := time.ParseDuration(rest)
	// A number without a unit is none, but for 0; a sign belongs nowhere.
	if err != nil || more < 0 || strings.ContainsAny(rest, "+-") || found && rest == "0" || d+more < d {
		return 0, false
	}
	return d + more, true
}

// writeDuration writes what readDuration reads, without units that say nothing.
func writeDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	days := ""
	if d >= 2*oneDay {
		days = strconv.FormatInt(int64(d/oneDay), 10) + "d"
		d %= oneDay
		if d == 0 {
			return days
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return days + s
}

// timeout is a length of time within bounds; in a variable a number alone is seconds.
func timeout(least, most time.Duration) typ[time.Duration] {
	t := duration(most)
	t.allowed = fmt.Sprintf(`a duration with its unit, such as "90s" or "2m", from %q to %q`, writeDuration(least), writeDuration(most))
	t.read = func(v value, b base) (time.Duration, bool) {
		if n := b.number(v); n.kind == kindInteger && v.kind == kindText {
			v.text += "s"
		}
		d, ok := readDuration(v.text)
		return d, v.kind == kindText && ok && d >= least && d <= most
	}
	return t
}

// seconds is a length of time as a whole number of seconds.
func seconds(least, most int) typ[time.Duration] {
	n := integer(least, most)
	return typ[time.Duration]{
		name: n.name, allowed: n.allowed + ", of seconds",
		read: func(v value, b base) (time.Duration, bool) {
			got, ok := n.read(v, b)
			return time.Duration(got) * time.Second, ok
		},
		literal: func(d time.Duration) string { return n.literal(int(d / time.Second)) },
		plain:   func(d time.Duration) any { return int(d / time.Second) },
	}
}
