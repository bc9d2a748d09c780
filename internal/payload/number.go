package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// figures returns a number as it was written, whether as a JSON number or as
// text; "" for anything else.
func (o *object) figures(key string) string {
	if s, ok := o.fields.text(key); ok {
		return s
	}
	var n json.Number
	if v := bytes.TrimSpace(o.fields[key]); len(v) == 0 || v[0] == '"' || json.Unmarshal(v, &n) != nil {
		return ""
	}
	return n.String()
}

// decimal reads a number as people write it: no hexadecimal, no infinity.
func decimal(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789.eE+-") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

// whole returns a number from 0 to limit. 2.0 and "2" are 2; 2.5 is refused.
func (o *object) whole(key string, limit int64) int64 {
	if !o.fields.has(key) {
		return 0
	}
	s := o.figures(key)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		v, ok := decimal(s)
		if ok && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			n, err = int64(v), nil
		}
	}
	if err != nil || n < 0 || n > limit {
		o.mismatch(key, fmt.Sprintf("a whole number from 0 to %d", limit))
		return 0
	}
	return n
}

// duration returns a number of seconds, as a number or as text, or a duration
// such as "1h30m".
func (o *object) duration(key string) time.Duration {
	if !o.fields.has(key) {
		return 0
	}
	s := o.figures(key)
	d, err := time.ParseDuration(s)
	if seconds, ok := decimal(s); ok {
		// Compared as a number first: a large one would not fit a Duration.
		d, err = -1, nil
		if seconds >= 0 && seconds <= task.MaxDuration.Seconds() {
			d = time.Duration(seconds * float64(time.Second))
		}
		if d == 0 && seconds > 0 {
			d = 1 // 0 would mean "none"
		}
	}
	if err != nil || d < 0 || d > task.MaxDuration {
		o.mismatch(key, fmt.Sprintf("seconds (90) or a duration (\"1h30m\"), at most %d days", task.MaxDuration/(24*time.Hour)))
		return 0
	}
	return d
}
