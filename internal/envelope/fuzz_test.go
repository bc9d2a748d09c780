package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// FuzzRead holds what must be true of any document: it is refused with a code
// that is the sender's to mend and a text that can be shown, or it is one JSON
// object that everybody reads alike, and what it says is what we took.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"id":"a","class":"gpu","priority":-3,"payload":{"command":["a","b"],"n":1.50}}`, `{"id":null}`, ` {"payload":{}} `,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a\"":1,"a\\":[{"b":{}},"]}"]}`, `[1]`, `"x"`, `null`, ``, `{"id":"\ud800"}`,
		`{"priority":1e3}`, `{"task_id":"a"}`, `{"payload":{"":null}}`, "{\"id\":\"\xff\"}", `{"id":"a"}}`, `{"x":"\u0000"}`, "\ufeff{}",
		strings.Repeat(`{"a":`, 101), strings.Repeat(`[`, 200),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, form := range []Form{Body, File} {
			checkRead(t, form, doc)
		}
	})
}

func checkRead(t *testing.T, form Form, doc []byte) {
	t.Helper()
	got, err := form.Read(doc)
	if err != nil {
		var e *task.Error
		if !errors.As(err, &e) || e.Code != task.CodeInvalid || !utf8.ValidString(err.Error()) {
			t.Fatalf("refused with %v (%s)", err, task.CodeOf(err))
		}
		return
	}
	if !utf8.Valid(doc) || !json.Valid(doc) || bytes.TrimSpace(doc)[0] != '{' {
		t.Fatalf("%q was accepted", doc)
	}
	var plain map[string]any
	if err := json.Unmarshal(doc, &plain); err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	if id, _ := plain["id"].(string); id != got.ID {
		t.Fatalf("%q has the id %q", doc, got.ID)
	}
	given, _ := plain["payload"].(map[string]any)
	if bare(form, plain) {
		given = plain
	}
	if got.Payload == nil || len(given) != len(got.Payload) {
		t.Fatalf("%q has the payload %v", doc, got.Payload)
	}
	if n := len(plain); !bare(form, plain) && n > len(got.Unknown)+len(Keys) {
		t.Fatalf("%q: of %d keys %q are unknown", doc, n, got.Unknown)
	}
}

// bare says whether the whole document is a payload.
func bare(form Form, doc map[string]any) bool {
	if !form.Bare {
		return false
	}
	for _, k := range Keys {
		if _, there := doc[k]; there {
			return false
		}
	}
	return true
}

// FuzzCheck compares the walk with a reader that keeps every key.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":{"a":1},"b":[{"a":1},{"a":2}]}`, `{"a":[{"x":1,"x":2}]}`, `{"\u0061":1,"a":1}`, `{"a\\":1,"a\"":2}`, `{"a":"{\"a\":1,"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) || !utf8.Valid(body) || bytes.TrimSpace(body)[0] != '{' || bytes.Count(body, []byte("{"))+bytes.Count(body, []byte("[")) > maxJSONDepth || len(body) > maxJSONMembers {
			return
		}
		if got, want := Body.check(body) != nil, repeats(json.NewDecoder(bytes.NewReader(body))); got != want {
			t.Fatalf("%q: refused %v, want %v", body, got, want)
		}
	})
}

// repeats reads one value, and says whether an object in it has a key twice.
func repeats(d *json.Decoder) bool {
	d.UseNumber()
	tok, err := d.Token()
	if err != nil {
		return false
	}
	open, nested := tok.(json.Delim)
	found, seen := false, map[string]bool{}
	for nested && d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return found
			}
			name, _ := key.(string)
			found = found || seen[name]
			seen[name] = true
		}
		found = repeats(d) || found
	}
	if nested {
		_, _ = d.Token() // the bracket that closes it
	}
	return found
}
