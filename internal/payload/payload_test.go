package payload_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestFromText(t *testing.T) {
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

func TestParse(t *testing.T) {
	for _, bad := range []string{"[]", "1", "null", `"x"`, "{", `{"a":1}x`} {
		if _, err := payload.Parse([]byte(bad)); task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	none, err := payload.Parse(nil)
	if err != nil || len(none) != 0 {
		t.Errorf("nothing: %v, %v", none, err)
	}
	if j, err := none.JSON(); err != nil || j != nil {
		t.Errorf("no fields are %s, %v", j, err)
	}
}

func TestOver(t *testing.T) {
	below, err := payload.Parse([]byte(`{"b":2,"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := payload.FromText(map[string]string{"a": "x"}).Over(below).JSON()
	if err != nil || string(got) != `{"a":"x","b":2}` {
		t.Errorf("got %s, %v", got, err)
	}
	if string(below["a"]) != "1" {
		t.Error("the fields below were changed")
	}
}

func resolve(t *testing.T, class, object string) (*task.Spec, error) {
	t.Helper()
	f, err := payload.Parse([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	s := &task.Spec{ID: "t", Class: class}
	return s, payload.Resolve(f, s)
}

func TestResolve(t *testing.T) {
	sh := func(line string) []string { return []string{"/bin/sh", "-c", line} }
	for _, tc := range []struct {
		class, object string
		argv          []string
		dir           string
		timeout       time.Duration
	}{
		{object: `{"command":"python x.py"}`, argv: sh("python x.py")},
		{object: `{"command":["python","x.py"]}`, argv: []string{"python", "x.py"}},
		{object: `{"command":["a b","$(c)",""]}`, argv: []string{"a b", "$(c)", ""}},
		{object: `{"command":"[ -f x ] && echo yes"}`, argv: sh("[ -f x ] && echo yes")},
		{object: `{"command":"('echo' hi)"}`, argv: sh("('echo' hi)")},
		{object: `{"command":"{ echo 'a: b'; }"}`, argv: sh("{ echo 'a: b'; }")},
		{object: `{"command":"x","workdir":"/d","timeout":90}`, argv: sh("x"), dir: "/d", timeout: 90 * time.Second},
		{object: `{"command":"x","timeout":"1.5"}`, argv: sh("x"), timeout: 1500 * time.Millisecond},
		{object: `{"command":"x","timeout":"1h30m"}`, argv: sh("x"), timeout: 90 * time.Minute},
		{object: `{"command":"x","timeout":0}`, argv: sh("x")},
		{object: `{"command":"x","timeout":1e-12}`, argv: sh("x"), timeout: 1},
		{object: `{"command":"x","timeout":null,"workdir":null,"execution":null,"type":null}`, argv: sh("x")},
		{object: `{"command":"x","type":"y","action":"z"}`, argv: sh("x")},
		{class: "cpu_long", object: `{"command":"x"}`, argv: sh("x")},
	} {
		if tc.class == "" {
			tc.class = "cpu_short"
		}
		s, err := resolve(t, tc.class, tc.object)
		if err != nil || !slices.Equal(s.Argv, tc.argv) || s.Dir != tc.dir || s.Timeout != tc.timeout || s.Builtin != "" {
			t.Errorf("%s: %+v, %v", tc.object, s, err)
		}
	}
}

func TestResolveEcho(t *testing.T) {
	for _, object := range []string{`{}`, `{"message":"hello"}`, `{"command":null}`, `{"timeout":3}`} {
		if s, err := resolve(t, "cpu_short", object); err != nil || s.Builtin != task.BuiltinEcho || s.Argv != nil {
			t.Errorf("%s: %+v, %v", object, s, err)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	for _, tc := range []struct {
		class, object string
		code          task.Code
		hint          string
	}{
		{object: `{"command":""}`, code: task.CodeInvalid, hint: "empty"},
		{object: `{"command":"  "}`, code: task.CodeInvalid, hint: "empty"},
		{object: `{"command":[]}`, code: task.CodeInvalid, hint: "empty"},
		{object: `{"command":["a",1]}`, code: task.CodeInvalid, hint: "array of texts"},
		{object: `{"command":["a",null]}`, code: task.CodeInvalid, hint: "array of texts"},
		{object: `{"command":{"a":1}}`, code: task.CodeInvalid, hint: "array of texts"},
		{object: `{"command":7}`, code: task.CodeInvalid, hint: "array of texts"},
		{object: `{"command":"['python', 'x.py']"}`, code: task.CodeInvalid, hint: "json.dumps"},
		{object: `{"command":"[\"python\", 'x.py']"}`, code: task.CodeInvalid, hint: "json.dumps"},
		{object: `{"command":"('python', 'x.py')"}`, code: task.CodeInvalid, hint: "json.dumps"},
		{object: `{"command":"{'command': ['x']}"}`, code: task.CodeInvalid, hint: "json.dumps"},
		{object: `{"execution":"{'command': ['x']}"}`, code: task.CodeInvalid, hint: "json.dumps"},
		{object: `{"execution":{"command":["x"]}}`, code: task.CodeUnsupported, hint: "later"},
		{object: `{"execution":{"command":["x"]},"command":"y"}`, code: task.CodeUnsupported, hint: "later"},
		{object: `{"type":"gepa"}`, code: task.CodeUnsupported, hint: "later"},
		{object: `{"task_type":"gepa"}`, code: task.CodeUnsupported, hint: "later"},
		{object: `{"command":"x","image":"alpine"}`, code: task.CodeUnsupported, hint: "image"},
		{object: `{"command":"x","gpus":1}`, code: task.CodeUnsupported, hint: "gpus"},
		{object: `{"action":"x"}`, code: task.CodeInvalid, hint: "command"},
		{class: "cpu_long", object: `{"message":"x"}`, code: task.CodeInvalid, hint: "command"},
		{object: `{"command":"x","workdir":"d"}`, code: task.CodeInvalid, hint: "absolute"},
		{object: `{"command":"x","workdir":7}`, code: task.CodeInvalid, hint: "absolute"},
		{object: `{"command":"x","timeout":"soon"}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":-1}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":"-1s"}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":"nan"}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":"inf"}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":1e300}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":true}`, code: task.CodeInvalid, hint: "timeout"},
		{object: `{"command":"x","timeout":""}`, code: task.CodeInvalid, hint: "timeout"},
	} {
		if tc.class == "" {
			tc.class = "cpu_short"
		}
		_, err := resolve(t, tc.class, tc.object)
		var e *task.Error
		if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Message, tc.hint) {
			t.Errorf("%s: %v (%s), want %s and a word about %q", tc.object, err, task.CodeOf(err), tc.code, tc.hint)
		}
	}
}

// FuzzResolve holds what must be true of any payload: it is refused with a code
// that is the sender's to mend, or becomes one program within its limits.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"command":"x"}`, `{"command":["a","b"],"timeout":"1h"}`, `{"command":"['a']"}`, `{"timeout":1e9,"workdir":"/x"}`,
		`{"execution":"{'a': 1}"}`, `{"type":null,"action":""}`, "{\"command\":\"\xff\"}",
	} {
		f.Add(seed, "cpu_short")
		f.Add(seed, "cpu_long")
	}
	f.Fuzz(func(t *testing.T, object, class string) {
		fields, err := payload.Parse([]byte(object))
		if err != nil {
			return
		}
		spec := &task.Spec{Class: class}
		if err := payload.Resolve(fields, spec); err != nil {
			if c := task.CodeOf(err); c != task.CodeInvalid && c != task.CodeUnsupported {
				t.Fatalf("refused with %s: %v", c, err)
			}
			return
		}
		if (spec.Builtin != "") == (len(spec.Argv) > 0) {
			t.Fatalf("%q became %+v", object, spec)
		}
		if spec.Timeout < 0 || spec.Timeout > task.MaxDuration {
			t.Fatalf("timeout %s", spec.Timeout)
		}
		if j, err := fields.JSON(); err != nil || j != nil && !json.Valid(j) {
			t.Fatalf("payload %s, %v", j, err)
		}
	})
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
