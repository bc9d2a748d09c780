package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units of sizes, the ones to prefer first.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// size is a number of bytes within bounds; with least = 0, 0 is allowed.
func size(least, most int64) typ[int64] {
	allowed := `a size with its unit, such as "12GiB" (of 1024) or "500MB" (of 1000)`
	if least > 0 {
		allowed += fmt.Sprintf(", from %q to %q", writeSize(least), writeSize(most))
	}
	return typ[int64]{
		name: "size", allowed: allowed,
		read: func(v value, _ base) (int64, bool) {
			n, ok := ParseSize(v.text)
			return n, v.kind == kindText && ok && n >= least && n <= most
		},
		literal: func(n int64) string { return quote(writeSize(n)) },
		plain:   itself[int64],
	}
}

// ParseSize reads a number of bytes with a unit, in letters of any case. "12G" is
// neither of 1024 nor of 1000, and no size.
func ParseSize(s string) (int64, bool) {
	digits := strings.TrimRight(s, "BKMGTibkmgt")
	name := s[len(digits):]
	digits = strings.TrimSuffix(digits, " ")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(n >= 0) || strings.Trim(digits, "0123456789.") != "" {
		return 0, false
	}
	if name == "" {
		return 0, n == 0
	}
	for _, u := range units {
		if !strings.EqualFold(u.name, name) {
			continue
		}
		if whole, err := strconv.ParseInt(digits, 10, 64); err == nil && whole <= math.MaxInt64/u.bytes {
			return whole * u.bytes, true // a float has not enough digits for all of them
		}
		bytes := n * float64(u.bytes)
		return int64(bytes), bytes < math.MaxInt64/2
	}
	return 0, false
}

// writeSize writes what ParseSize reads, without a fraction and in few letters.
func writeSize(n int64) string {
	best := ""
	for _, u := range units {
		if n%u.bytes != 0 || n == 0 && u.bytes != 1 {
			continue
		}
		if s := strconv.FormatInt(n/u.bytes, 10) + u.name; best == "" || len(s) < len(best) {
			best = s
		}
	}
	return best
}
