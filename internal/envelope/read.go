package envelope

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/spelling"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Keys are the keys of a submission.
var Keys = []string{"id", "class", "priority", "payload"}

// Submission is a task as a JSON object asks for it.
type Submission struct {
	ID       string // "" = it names none
	Class    string // "" = the default
	Priority int32
	Payload  payload.Fields // never nil
	Unknown  []string       // keys that say nothing to us, sorted
}

// Form is what one door takes.
type Form struct {
	Name string // what messages call the document
	// Bare has an object with none of the Keys be a payload in itself. Else it is
	// refused.
	Bare bool
	// NoID has an empty id be none. Else it is refused, as a slip of whoever was to fill
	// it in, after which the same document would be another task each time.
	NoID bool
}

// The forms that there are.
var (
	Body = Form{Name: "body", NoID: true} // of an HTTP request
	File = Form{Name: "file", Bare: true} // of the drop folder
)

// Read reads a submission. An error has CodeInvalid, and its text is for whoever
// wrote the document.
func (f Form) Read(doc []byte) (Submission, error) {
	if err := f.check(doc); err != nil {
		return Submission{}, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return Submission{}, task.Errorf(task.CodeInvalid, "the %s is not a JSON object: %w", f.Name, err)
	}
	if f.Bare && !slices.ContainsFunc(Keys, func(k string) bool { return members[k] != nil }) {
		fields, err := payload.Parse(doc)
		return Submission{Payload: fields}, err
	}
	for k, v := range members {
		if string(v) == "null" {
			delete(members, k) // as if it were not there
		}
	}
	sub, err := read(members)
	if _, given := members["id"]; err == nil && given && sub.ID == "" && !f.NoID {
		err = task.Errorf(task.CodeInvalid, `the "id" is empty; leave it out, and the task gets one, or put in what it is to be`)
	}
	if err == nil && !f.Bare && len(sub.Unknown) > 0 && len(sub.Unknown) == len(members) {
		err = task.Errorf(task.CodeInvalid, `the %s has none of the keys %s; if all of it is the payload, send {"payload": ...}`, f.Name, strings.Join(Keys, ", "))
	}
	return sub, err
}

func read(members map[string]json.RawMessage) (sub Submission, err error) {
	if sub.ID, err = textMember(members, "id"); err != nil {
		return sub, err
	}
	if sub.Class, err = textMember(members, "class"); err != nil {
		return sub, err
	}
	if sub.Priority, err = priorityMember(members); err != nil {
		return sub, err
	}
	if sub.Payload, err = payloadMember(members); err != nil {
		return sub, err
	}
	sub.Unknown, err = strangers(members, sub.Payload)
	return sub, err
}

func textMember(members map[string]json.RawMessage, key string) (string, error) {
	var s string
	v, there := members[key]
	if there && json.Unmarshal(v, &s) != nil {
		return "", task.Errorf(task.CodeInvalid, "%q is %s; it has to be a text in double quotes", key, kindOf(v))
	}
	return s, nil
}

func priorityMember(members map[string]json.RawMessage) (int32, error) {
	v, there := members["priority"]
	if !there {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil {
		return 0, task.Errorf(task.CodeInvalid, `"priority" is %s; it has to be a whole number from %d to %d, without quotes`,
			shortened(string(v)), -task.MaxPriority, task.MaxPriority)
	}
	return int32(n), nil
}

// payloadMember returns no nil without an error: nothing is an empty payload.
func payloadMember(members map[string]json.RawMessage) (payload.Fields, error) {
	v, there := members["payload"]
	switch {
	case !there:
		return payload.Fields{}, nil
	case v[0] == '"':
		return nil, task.Errorf(task.CodeInvalid, `"payload" is a text; send the object itself, without quotes around it`)
	case v[0] != '{':
		return nil, task.Errorf(task.CodeInvalid, `"payload" is %s; it has to be an object, such as {"command": "python train.py"}`, kindOf(v))
	}
	return payload.Parse(v)
}

func kindOf(v json.RawMessage) string {
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a text"
	case 't', 'f':
		return "true or false"
	default:
		return "a number"
	}
}

// meant are keys that others use, and what they are called here.
var meant = map[string]string{"task_id": "id", "task_class": "class", "task_priority": "priority"}

// programKeys say what to run, inside the payload.
var programKeys = []string{"action", "command", "execution", "image", "task_type", "type"}

// strangers returns the keys of a submission that are not ours. Clients send more
// than we know of, so most are ignored; but not one that its sender must have
// meant to count, so that no task is accepted as something else than was asked for.
func strangers(members map[string]json.RawMessage, fields payload.Fields) (unknown []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if slices.Contains(Keys, key) {
			continue
		}
		if word := misspelt(key); word != "" && members[word] == nil {
			return nil, task.Errorf(task.CodeInvalid, "there is no key %q; did you mean %q?", shortened(key), word)
		}
		if slices.Contains(programKeys, key) && !fields.NamesProgram() {
			return nil, task.Errorf(task.CodeInvalid, `%q is not read there; put it into "payload"`, key)
		}
		unknown = append(unknown, strings.ToValidUTF8(key, "\uFFFD"))
	}
	return unknown, nil
}

// misspelt returns the key that somebody meant; "" = none.
func misspelt(key string) string {
	if word := meant[key]; word != "" {
		return word
	}
	for _, word := range Keys {
		if strings.EqualFold(key, word) {
			return word
		}
	}
	if len(key) < 4 {
		return "" // everything short is like "id"
	}
	return spelling.Nearest(strings.ToLower(key), Keys[1:], 2)
}

// shortened is a text of somebody's as it is shown back to them.
func shortened(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
