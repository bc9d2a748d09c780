package payload

import (
	"fmt"
	"unicode/utf8"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Limits of a payload, beside task.MaxPayloadBytes.
const (
	MaxKeys  = 10_000 // of the payload, and variables in an environment
	MaxDepth = 64     // objects and arrays within one another; the payload is the first
)

// check says what is too large, too deep or no text, before anything is made of
// it.
func (f Fields) check() error {
	if len(f) > MaxKeys {
		return task.Errorf(task.CodeInvalid, "the payload has %d keys; at most %d are allowed: put large data into a file and pass its path", len(f), MaxKeys)
	}
	total := 0
	for key, v := range f {
		total += len(key) + len(v)
	}
	if total > task.MaxPayloadBytes {
		return tooLarge(total)
	}
	for key, v := range f {
		if !utf8.ValidString(key) || !utf8.Valid(v) {
			return f.notText()
		}
		if err := checkDepth(key, v, 1); err != nil {
			return err
		}
	}
	return nil
}

func tooLarge(n int) error {
	return task.Errorf(task.CodeInvalid, "the payload is %d bytes long; at most %d are allowed: put large data into a file and pass its path", n, task.MaxPayloadBytes)
}

// checkDepth refuses a value that, at so many levels below the top, goes too
// deep: recursive readers would not all survive it.
func checkDepth(key string, v []byte, below int) error {
	if n := below + depth(v); n > MaxDepth {
		return refuse(key, fmt.Sprintf("is nested %d levels deep", n), fmt.Sprintf("at most %d are allowed: put such data into a file and pass its path", MaxDepth))
	}
	return nil
}

// depth counts how many objects and arrays of a JSON text stand within one
// another.
func depth(v []byte) int {
	if plainValue(v) {
		return 0
	}
	now, most, quoted := 0, 0, false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}
