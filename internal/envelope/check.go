package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Bounds of a JSON document that somebody sends. They are far above what people
// write.
const (
	maxJSONDepth   = 100
	maxJSONMembers = 10_000 // of one object
)

// check refuses what is not one JSON object, and what different readers would
// understand differently: text that is not UTF-8 and keys that are there twice. An
// error says where.
func (f Form) check(doc []byte) error {
	if len(bytes.TrimSpace(doc)) == 0 {
		return task.Errorf(task.CodeInvalid, `the %s is empty; it has to be a JSON object, such as {"payload": {"command": "python train.py"}}`, f.Name)
	}
	if at := firstBadByte(doc); at >= 0 {
		return f.invalid(doc, at, "is not UTF-8 there")
	}
	var value json.RawMessage
	if err := json.Unmarshal(doc, &value); err != nil {
		at := len(doc)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = max(0, int(syntax.Offset)-1)
		}
		return f.invalid(doc, at, "is not valid JSON: "+err.Error())
	}
	if value[0] != '{' {
		return f.invalid(doc, bytes.IndexByte(doc, value[0]), "is not a JSON object: it has to begin with {")
	}
	w := walk{form: f, doc: doc}
	return w.all()
}

// firstBadByte returns where a text stops being UTF-8; -1 = nowhere.
func firstBadByte(doc []byte) int {
	if utf8.Valid(doc) {
		return -1
	}
	for at := 0; at < len(doc); {
		r, size := utf8.DecodeRune(doc[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

// invalid says what is wrong with a document and where.
func (f Form) invalid(doc []byte, at int, what string) error {
	before := doc[:min(at, len(doc))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return task.Errorf(task.CodeInvalid, "the %s %s (line %d, column %d)", f.Name, what, line, column)
}

// walk goes once through a document that is known to be valid JSON.
type walk struct {
	form Form
	doc  []byte
	open []level
}

// level is an object or an array that the walk is in.
type level struct {
	keys  map[string]struct{} // nil until there is one, and in arrays
	isKey bool                // the next string is a key
}

func (w *walk) all() error {
	for at := 0; at < len(w.doc); at++ {
		var err error
		switch w.doc[at] {
		case '{', '[':
			err = w.enter(at)
		case '}', ']':
			w.open = w.open[:len(w.open)-1]
		case ',':
			w.turn(true)
		case ':':
			w.turn(false)
		case '"':
			end := stringEnd(w.doc, at)
			err = w.text(at, end)
			at = end - 1
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) enter(at int) error {
	if len(w.open) == maxJSONDepth {
		return w.form.invalid(w.doc, at, fmt.Sprintf("is nested more than %d deep", maxJSONDepth))
	}
	l := level{}
	if w.doc[at] == '{' {
		l = level{isKey: true, keys: map[string]struct{}{}}
	}
	w.open = append(w.open, l)
	return nil
}

// turn notes what comes next in the innermost object.
func (w *walk) turn(isKey bool) {
	if top := &w.open[len(w.open)-1]; top.keys != nil {
		top.isKey = isKey
	}
}

// text looks at the string from at to end, quotes included.
func (w *walk) text(at, end int) error {
	if len(w.open) == 0 || !w.open[len(w.open)-1].isKey {
		return nil
	}
	keys := w.open[len(w.open)-1].keys
	key := string(w.doc[at+1 : end-1])
	if bytes.IndexByte(w.doc[at:end], '\\') >= 0 && json.Unmarshal(w.doc[at:end], &key) != nil {
		return w.form.invalid(w.doc, at, "has a key that cannot be read")
	}
	if _, twice := keys[key]; twice {
		return w.form.invalid(w.doc, at, fmt.Sprintf("has the key %q twice in one object", shortened(key)))
	}
	if len(keys) == maxJSONMembers {
		return w.form.invalid(w.doc, at, fmt.Sprintf("has an object with more than %d members", maxJSONMembers))
	}
	keys[key] = struct{}{}
	return nil
}

// stringEnd returns the place behind the string that begins at at.
func stringEnd(doc []byte, at int) int {
	for at++; at < len(doc); at++ {
		switch doc[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return len(doc)
}
