package payload_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// FuzzResolve holds what must be true of any payload: it is refused for a key,
// with what to write instead, or becomes one program that the queue accepts.
func FuzzResolve(f *testing.F) {
	for _, group := range refusals {
		for _, tc := range group.list {
			f.Add(tc.payload, "cpu_short")
		}
	}
	for _, seed := range []string{
		`{}`, `{"command":"x"}`, `{"command":["a","b"],"timeout":"1h"}`, `{"command":"['a']"}`, `{"timeout":1e9,"workdir":"/x"}`,
		`{"execution":"{'a': 1}"}`, `{"type":null,"action":""}`, "{\"command\":\"\xff\"}", `{"type":"rl_sweep"}`, `{"task_type":"report"}`,
		`{"execution":{"command":["x"],"image":"i","mounts":[{"host_path":"/a","mount_path":"/b"}],"env":{"A":1},"resources":{"gpu_memory_gb":1}}}`,
		`{"command":"x","gpu_memory":"0.0000000001 MiB"}`,
	} {
		f.Add(seed, "cpu_short")
		f.Add(seed, "cpu_long")
	}
	f.Fuzz(func(t *testing.T, object, class string) {
		fields, err := payload.Parse([]byte(object))
		if err != nil {
			return
		}
		j, err := fields.JSON()
		if err != nil {
			return
		}
		if j != nil && !json.Valid(j) {
			t.Fatalf("payload %s", j)
		}
		_ = payload.Class(fields, types)
		wellResolved(t, fields, class)
	})
}

// FuzzFields compares what is done by hand, because every submission pays for it,
// with what encoding/json says of the same bytes.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { } `, `null`, `[]`, `{"a":1}x`, `{"b" : [1, {"c": "]}"}] , "a":"x\\\"y", "b":null}`, `{"a":-1.5e3,"":true }`,
		`{"\u0061":1,"a":2}`, `{"é":"\ud800","<&>":"\u2028<"}`, "{\"a\x7f\":{}}", "{\"a\":\"\xff\"}", "{\"\xff\":1}", `{"a":1,}`, `{"a" 1}`, `{"a`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		got, err := payload.Parse(object)
		var want map[string]json.RawMessage
		sound := json.Unmarshal(object, &want) == nil && want != nil && utf8.Valid(object)
		if len(object) == 0 {
			want, sound = map[string]json.RawMessage{}, true
		}
		if sound != (err == nil) {
			t.Fatalf("%q: %v", object, err)
		}
		if err != nil {
			return
		}
		if !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q is %q, want %q", object, got, want)
		}
		written, err := got.JSON()
		if err != nil || written == nil {
			return // too deep, or empty
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(want); err != nil || b.String() != string(written)+"\n" {
			t.Fatalf("%q is written as %q, want %q, %v", object, written, b.String(), err)
		}
	})
}

// FuzzExecution holds what FuzzResolve does of the object inside, and compares its two
// spellings.
func FuzzExecution(f *testing.F) {
	for _, group := range refusals {
		for _, tc := range group.list {
			if fields, err := payload.Parse([]byte(tc.payload)); err == nil && fields["execution"] != nil {
				f.Add(string(fields["execution"]))
			}
		}
	}
	f.Add(`{"command":["x"],"image":"i","mounts":[{"host_path":"/a","mount_path":"/b"}],"env":{"A":1},"resources":{"gpu_memory_gb":1}}`)
	f.Add(`{"command":["\ud83d\ude00","\\ud800"],"timeout_seconds":"1e3","working_dir":"/"}`)
	f.Fuzz(func(t *testing.T, execution string) {
		if !json.Valid([]byte(execution)) || !utf8.ValidString(execution) {
			return
		}
		wellResolved(t, payload.Fields{"execution": json.RawMessage(execution)}, "cpu_short")
		sameEitherWay(t, execution)
	})
}

// namesKeyAndCure is how every refusal is built.
var namesKeyAndCure = regexp.MustCompile(`^(".+" .+; .+|the payload names nothing to run; add "command".+)$`)

func wellResolved(t *testing.T, fields payload.Fields, class string) {
	t.Helper()
	spec := &task.Spec{ID: "t", Class: class}
	if err := payload.Resolve(fields, types, spec); err != nil {
		e, ok := errors.AsType[*task.Error](err)
		if !ok || e.Code != task.CodeInvalid || !namesKeyAndCure.MatchString(e.Message) || !utf8.ValidString(e.Message) {
			t.Fatalf("refused with %v", err)
		}
		if len(spec.Argv) > 0 || spec.Builtin != "" || spec.Image != "" {
			t.Fatalf("a refusal changed the spec: %+v", spec)
		}
		return
	}
	if (spec.Builtin != "") == (len(spec.Argv) > 0 || spec.Image != "") {
		t.Fatalf("it became %+v", spec)
	}
	if spec.Class = "c"; len(spec.Argv) < task.MaxArgs {
		if err := spec.Validate(); err != nil {
			t.Fatalf("the queue refuses %+v: %v", spec, err)
		}
	}
}

// FuzzFromText holds that text stays what it was, or is the same JSON.
func FuzzFromText(f *testing.F) {
	for _, seed := range []string{"", "007", "[1]", "{", `{"a":[{}]}`, "\x00", " [ ] "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		v := payload.FromText(map[string]string{"k": in})["k"]
		if !json.Valid(v) {
			t.Fatalf("%q became %s", in, v)
		}
		var s string
		if json.Unmarshal(v, &s) == nil && s != strings.ToValidUTF8(in, "\uFFFD") && s != in && len(s) < len(in) {
			t.Fatalf("%q became the text %q", in, s)
		}
	})
}
