package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Fields are the members of a payload, each as the JSON that it was given as.
type Fields map[string]json.RawMessage

// FromText makes fields of values that came as text. Text that is a JSON object
// or array becomes that; everything else stays text, so that "007" keeps its
// zeros and "true" remains a word. Text that is not UTF-8 is for the caller to
// refuse, as gRPC does before it gets here.
func FromText(values map[string]string) Fields {
	f := make(Fields, len(values))
	for k, v := range values {
		if structured(v) {
			f[k] = json.RawMessage(v)
		} else {
			f[k] = quote(v)
		}
	}
	return f
}

// structured says whether the text is a JSON object or array.
func structured(s string) bool {
	s = strings.TrimLeft(s, " \t\r\n")
	return s != "" && (s[0] == '{' || s[0] == '[') && json.Valid([]byte(s))
}

// Parse makes fields of a JSON object, which they may share the memory of. No bytes
// at all are no fields. Of a key that is there twice the last counts, as in Python.
func Parse(object []byte) (Fields, error) {
	if len(object) == 0 {
		return Fields{}, nil
	}
	if len(object) > task.MaxPayloadBytes {
		return nil, tooLarge(len(object))
	}
	if f, ok := plainMembers(object); ok {
		return f, nil
	}
	f := Fields{}
	err := json.Unmarshal(object, &f)
	if other, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil, task.Errorf(task.CodeInvalid, "the payload is not a JSON object: it is of the kind %q", other.Value)
	}
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "the payload is not a JSON object: %w", err)
	}
	if f == nil { // "null"
		return nil, task.Errorf(task.CodeInvalid, "the payload is not a JSON object: it is null")
	}
	if !utf8.Valid(object) {
		return nil, f.notText()
	}
	return f, nil
}

// notText names the first member of a payload that is not UTF-8.
func (f Fields) notText() error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		// A key that was not UTF-8 has become one with a replacement in it.
		if !utf8.Valid(f[key]) || strings.ContainsRune(key, utf8.RuneError) {
			return refuse(key, "is not UTF-8", "send other bytes as base64, or put them into a file")
		}
	}
	return task.Errorf(task.CodeInvalid, "the payload is not UTF-8: send other bytes as base64, or put them into a file")
}

// Over returns the fields of f and of below; where both have one, that of f.
func (f Fields) Over(below Fields) Fields {
	if len(f) == 0 && below != nil {
		return below
	}
	out := maps.Clone(below)
	if out == nil {
		out = Fields{}
	}
	maps.Copy(out, f)
	return out
}

// JSON returns the object, its keys sorted, so that equal fields are equal
// bytes; nil when there are no fields. It refuses what is too large or too deep,
// so nothing of that kind comes to be stored.
func (f Fields) JSON() (json.RawMessage, error) {
	if len(f) == 0 {
		return nil, nil
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(f.size() + 1)
	b.WriteByte('{')
	keys := slices.AppendSeq(make([]string, 0, len(f)), maps.Keys(f))
	slices.Sort(keys)
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		writeText(&b, key)
		b.WriteByte(':')
		if v := f[key]; plainValue(v) {
			b.Write(v)
		} else if err := json.Compact(&b, v); err != nil {
			return nil, task.Errorf(task.CodeInvalid, "the payload cannot be written as JSON: %w", err)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// size is about how long the object is.
func (f Fields) size() int {
	n := 1
	for key, v := range f {
		n += len(key) + len(`"":,`) + len(v)
	}
	return n
}

// has says whether the field is there and is not null.
func (f Fields) has(key string) bool {
	v, ok := f[key]
	return ok && string(bytes.TrimSpace(v)) != "null"
}

// text returns the field if it is a JSON string.
func (f Fields) text(key string) (string, bool) {
	var s string
	v := bytes.TrimSpace(f[key])
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", false
	}
	return s, true
}

func quote(s string) json.RawMessage {
	var b bytes.Buffer
	writeText(&b, s)
	return b.Bytes()
}

// writeText writes a JSON string.
func writeText(b *bytes.Buffer, s string) {
	if plain(s) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)         // a string can always be encoded
	b.Truncate(b.Len() - 1) // the line's end
}
