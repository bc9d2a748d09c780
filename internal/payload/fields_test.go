package payload_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func parse(t *testing.T, object string) payload.Fields {
	t.Helper()
	f, err := payload.Parse([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// refused checks the message of a refusal.
func refused(t *testing.T, what string, err error, words string) {
	t.Helper()
	e, ok := errors.AsType[*task.Error](err)
	if !ok || e.Code != task.CodeInvalid || !strings.Contains(e.Message, words) {
		t.Errorf("%s: %v, want a word about %q", what, err, words)
	}
}

func TestFromText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"hello": `"hello"`, "007": `"007"`, "1.5": `"1.5"`, "true": `"true"`, "null": `"null"`, "": `""`, `"quoted"`: `"\"quoted\""`,
		`{"a":1}`: `{"a":1}`, ` [1, 2]`: `[1,2]`, `[]`: `[]`, `{broken`: `"{broken"`, `[1,]`: `"[1,]"`, `{"a":1} x`: `"{\"a\":1} x"`, "<&>": `"<&>"`,
	} {
		got, err := payload.FromText(map[string]string{"k": in}).JSON()
		if err != nil || string(got) != `{"k":`+want+`}` {
			t.Errorf("%q became %s, %v; want %s", in, got, err, want)
		}
	}
}

// TestValuesStayTheSame: values are written without spaces, and what is no JSON is not
// written.
func TestValuesStayTheSame(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"a b"`: `"a b"`, `""`: `""`, `"\u00e9\""`: `"\u00e9\""`, `"é"`: `"é"`, "0": "0", "17": "17", "-1": "-1", "1.50": "1.50", "true": "true",
		` "x" `: `"x"`, `{ "b" : [1, 2] }`: `{"b":[1,2]}`,
		"": "", `"`: "", `"a`: "", `"a"b"`: "", `"\"`: "", "01": "", "1 2": "", "+1": "",
	} {
		got, err := payload.Fields{"k": json.RawMessage(in)}.JSON()
		if want == "" {
			refused(t, in, err, "cannot be written as JSON")
		} else if err != nil || string(got) != `{"k":`+want+`}` {
			t.Errorf("%q became %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"[]", "1", "null", `"x"`, "{", `{"a":1}x`, `{"a":NaN}`} {
		_, err := payload.Parse([]byte(bad))
		refused(t, bad, err, "the payload is not a JSON object")
	}
	none, err := payload.Parse(nil)
	if err != nil || len(none) != 0 {
		t.Errorf("nothing: %v, %v", none, err)
	}
	if j, err := none.JSON(); err != nil || j != nil {
		t.Errorf("no fields are %s, %v", j, err)
	}
	if twice := parse(t, `{"command":"a","command":"b"}`); string(twice["command"]) != `"b"` {
		t.Errorf("of a key that is there twice %s counts", twice["command"])
	}
}

func TestOver(t *testing.T) {
	t.Parallel()
	below := parse(t, `{"b":2,"a":1}`)
	got, err := payload.FromText(map[string]string{"a": "x"}).Over(below).JSON()
	if err != nil || string(got) != `{"a":"x","b":2}` {
		t.Errorf("got %s, %v", got, err)
	}
	if string(below["a"]) != "1" {
		t.Error("the fields below were changed")
	}
}

// TestNotUTF8 names the key whose bytes are no text: JSON decoders replace them
// without a word.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	for object, words := range map[string]string{
		"{\"a\":1,\"name\":\"\xff\"}":              `"name" is not UTF-8`,
		"{\"a\":{\"b\":[\"\xc3\x28\"]}}":           `"a" is not UTF-8`,
		"{\"\xff\":1}":                             "is not UTF-8",
		"{\"a\":\"\xff\",\"a\":1}":                 "the payload is not UTF-8",
		"{\"execution\":{\"command\":[\"\xfe\"]}}": `"execution" is not UTF-8`,
	} {
		_, err := payload.Parse([]byte(object))
		refused(t, object, err, words)
	}
	_, err := payload.FromText(map[string]string{"a": "[\"\xff\"]"}).JSON()
	refused(t, "from text", err, `"a" is not UTF-8`)
	if _, err := payload.Parse([]byte("{\"a\":\"\uFFFD\"}")); err != nil {
		t.Errorf("the replacement character itself: %v", err)
	}
}

// TestLimits tries what would fill a memory or a stack.
func TestLimits(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":1`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	for what, tc := range map[string]struct{ object, words string }{
		"deep enough":     {`{"a":` + nested(payload.MaxDepth-1) + `}`, ""},
		"too deep":        {`{"a":` + nested(payload.MaxDepth) + `}`, `"a" is nested 65 levels deep; at most 64 are allowed`},
		"brackets are no": {`{"a":"` + strings.Repeat("[", 99) + `\"[[{"}`, ""},
		"most keys":       {many(payload.MaxKeys), ""},
		"too many keys":   {many(payload.MaxKeys + 1), "the payload has 10001 keys; at most 10000 are allowed"},
		"too long":        {`{"a":"` + strings.Repeat("x", task.MaxPayloadBytes) + `"}`, "the payload is 4194312 bytes long; at most 4194304 are allowed"},
	} {
		f, err := payload.Parse([]byte(tc.object))
		if err == nil {
			_, err = f.JSON()
		}
		if tc.words != "" {
			refused(t, what, err, tc.words)
		} else if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := payload.FromText(map[string]string{"a": strings.Repeat("x", 3<<20), "b": strings.Repeat("x", 3<<20)}).JSON()
	refused(t, "together too long", err, "the payload is 6291462 bytes long")
	for what, tc := range map[string]struct{ object, words string }{
		"deep text":      {`{"execution":"{\"a\":` + nested(payload.MaxDepth) + `}"}`, `"execution" is nested`},
		"many variables": {`{"execution":{"command":["x"],"env":` + many(payload.MaxKeys+1) + `}}`, `"execution.env" has 10001 variables`},
		"many mounts":    {`{"execution":{"command":["x"],"mounts":[1` + strings.Repeat(",1", task.MaxMounts) + `]}}`, `"execution.mounts" has 257 entries`},
		"many words":     {`{"command":["x"` + strings.Repeat(`,"x"`, task.MaxArgs) + `]}`, `"command" has 16385 entries`},
		"many outputs":   {`{"execution":{"command":["x"]},"artifacts":{"outputs":[1` + strings.Repeat(",1", 1000) + `]}}`, `"artifacts.outputs" has 1001 entries`},
		"long tenant":    {`{"execution":{"command":["x"]},"tenant":"` + strings.Repeat("x", 201) + `"}`, `"tenant" is 201 bytes long`},
		"long path":      {`{"execution":{"command":["x"],"image":"a","container_workdir":"/` + strings.Repeat("x", 4096) + `"}}`, `"execution.container_workdir" is 4097 bytes long`},
	} {
		refused(t, what, payload.Resolve(parse(t, tc.object), nil, &task.Spec{}), tc.words)
	}
}

// TestRefusalsAreShort has huge values not come back in the answer.
func TestRefusalsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x\\n", 10_000)
	for _, object := range []string{
		`{"type":"` + long + `"}`, `{"command":"x","image":["` + long + `"]}`, `{"command":{"` + long + `":1}}`,
		`{"execution":{"command":["x"],"env":{"` + long + `":"1"}}}`, `{"execution":{"command":["x"],"resources":{"gpu_count":"` + long + `"}}}`,
	} {
		err := payload.Resolve(parse(t, object), types, &task.Spec{})
		if err == nil {
			t.Errorf("%.40s is not refused", object)
		} else if said := err.Error(); len(said) > 500 || strings.Contains(said, "\n") {
			t.Errorf("%.40s is refused with %q", object, said)
		}
	}
}
