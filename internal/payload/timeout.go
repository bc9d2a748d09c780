package payload

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// timeout reads a number of seconds, as a number or as text, or a duration such
// as "1h30m".
func timeout(f Fields) (time.Duration, error) {
	raw := f[keyTimeout]
	s, ok := f.text(keyTimeout)
	if !ok {
		var n json.Number
		if err := json.Unmarshal(raw, &n); err != nil {
			return 0, badTimeout(raw)
		}
		s = n.String()
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		// Compared as a number first: a large one would not fit a Duration. The
		// negation refuses NaN as well.
		if !(seconds >= 0 && seconds <= task.MaxDuration.Seconds()) {
			return 0, badTimeout(raw)
		}
		d := time.Duration(seconds * float64(time.Second))
		if seconds > 0 {
			d = max(d, 1) // 0 would mean "none"
		}
		return d, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > task.MaxDuration {
		return 0, badTimeout(raw)
	}
	return d, nil
}

func badTimeout(raw json.RawMessage) error {
	return task.Errorf(task.CodeInvalid, "\"timeout\" is %s; it must be seconds (90) or a duration (\"1h30m\"), at most %s", raw, task.MaxDuration)
}
