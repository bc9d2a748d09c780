package envelope

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestFileWithoutOurKeysIsAPayload(t *testing.T) {
	for doc, keys := range map[string]string{
		`{"task":"data"}`:                      "task",
		`{"command":"true","ID":1,"type":"x"}`: "ID,command,type",
		`{}`:                                   "",
		`{"payload":{"command":"true"},"source":"cron"}`: "command",
		`{"id":null,"payload":{"a":1}}`:                  "a",
		`{"id":"a"}`:                                     "",
	} {
		got, err := File.Read([]byte(doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
		} else if have := strings.Join(slices.Sorted(maps.Keys(got.Payload)), ","); have != keys {
			t.Errorf("%s: the payload has %q, want %q", doc, have, keys)
		}
	}
}

// What somebody must have meant to count is not taken for something of their own.
func TestMessagesNameTheDocument(t *testing.T) {
	for _, c := range []struct {
		form      Form
		doc, want string
	}{
		{Body, `{"task":"data"}`, "the body has none of the keys id, class, priority, payload"},
		{File, `{"id":"a","prioritty":5}`, `did you mean "priority"?`},
		{File, `{"id":"a","command":"true"}`, `"command" is not read there; put it into "payload"`},
		{File, ``, "the file is empty"},
		{File, `{"id":"a",`, "the file is not valid JSON: unexpected end of JSON input (line 1, column 10)"},
		{File, `["a"]`, "the file is not a JSON object: it has to begin with { (line 1, column 1)"},
		{File, `{"id":null,"task":"data","task_id":"x"}`, `did you mean "id"?`},
	} {
		if _, err := c.form.Read([]byte(c.doc)); err == nil {
			t.Errorf("%s was accepted", c.doc)
		} else if msg := err.Error(); !strings.Contains(msg, c.want) {
			t.Errorf("%s: %q lacks %q", c.doc, msg, c.want)
		}
	}
}
