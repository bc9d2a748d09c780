package backendtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func payload(t *testing.T, e *engine) {
	s := sh(`cat "$DSPY_PAYLOAD_FILE"`)
	s.Payload = json.RawMessage(`{"x": "$(touch /tmp/no)"}`)
	e.run(1, s)
	e.run(2, sh(`echo "${DSPY_PAYLOAD_FILE-none}"`))
	e.want(e.end(1), task.Succeeded)
	e.want(e.end(2), task.Succeeded)
	if got := e.place.Output(t, task.Ref{Seq: 1, Attempt: 1}); got != string(s.Payload) {
		t.Fatalf("payload %q", got)
	}
	if got := e.place.Output(t, task.Ref{Seq: 2, Attempt: 1}); got != "none\n" {
		t.Fatalf("a task without a payload has %q", got)
	}
}

func resultFile(t *testing.T, e *engine) {
	e.run(1, sh(`echo '{"loss": 0.5}' > "$DSPY_RESULT_FILE"`))
	e.run(2, sh(`echo '{"partial": true}' > "$DSPY_RESULT_FILE"; exit 1`))
	e.want(e.end(1), task.Succeeded)
	e.want(e.end(2), task.Failed)
	if got := strings.TrimSpace(e.result(1)); got != `{"loss": 0.5}` {
		t.Fatalf("result %q", got)
	}
	if got := strings.TrimSpace(e.result(2)); got != `{"partial": true}` {
		t.Fatalf("result of a failure %q", got)
	}
}

func badResult(t *testing.T, e *engine) {
	for i, script := range []string{
		`echo '[1]' > "$DSPY_RESULT_FILE"`,
		`echo '{' > "$DSPY_RESULT_FILE"`,
		`ln -s /etc/passwd "$DSPY_RESULT_FILE"`,
	} {
		seq := task.Seq(i + 1)
		e.run(seq, sh(script))
		if o := e.want(e.end(seq), task.Failed); o.Class != task.UserError || !strings.Contains(o.Message, "result") {
			t.Errorf("%s: outcome %+v", script, o)
		}
	}
}

func marked(t *testing.T, e *engine) {
	e.run(1, sh(`echo '__DSPY_RESULT__:{"n": 1}'; echo 'x __DSPY_RESULT__:{"n": 0}'; echo '__DSPY_RESULT__:{"n": 2}'; echo bye`))
	e.want(e.end(1), task.Succeeded)
	if got := e.result(1); got != `{"n": 2}` {
		t.Fatalf("result %q", got)
	}
}

func output(t *testing.T, e *engine) {
	e.run(1, sh(`i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo error >&2`))
	e.want(e.end(1), task.Succeeded)
	var want strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	want.WriteString("error\n")
	got := e.place.Output(t, task.Ref{Seq: 1, Attempt: 1})
	if at := strings.Index(got, "error\n"); at >= 0 && !e.place.Can.OneStream {
		got = got[:at] + got[at+len("error\n"):] + "error\n"
	}
	if got != want.String() {
		t.Fatalf("%d bytes of output, want %d", len(got), want.Len())
	}
}
