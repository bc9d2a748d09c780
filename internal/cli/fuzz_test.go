package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// FuzzTaskLines: whatever a file of tasks holds, each of its lines is a request
// that can be sent, or a mistake under the line's number; and reading it again
// gives the same, so that a submission that broke off can be repeated.
func FuzzTaskLines(f *testing.F) {
	for _, seed := range []string{
		`{"id":"a","argv":["true"]}` + "\n" + `{"id":"b","argv":["true"],"after":["a:any"]}`,
		"\n\r\n \t\n" + `{"command":"echo hi","env":{"A":"1"},"priority":-3,"retries":2,"timeout":"10m","payload":{"x":[1,{}]},"name":"n","class":"cpu_long","workdir":"/"}` + "\n\n",
		`{"argv":["true"],"timeout":1.5}` + "\n" + `{"argv":["true"],"timeout":1e300}` + "\n" + `{"argv":["true"],"timeout":-1}`,
		`{"argv":["a\u0000b"]}` + "\n" + `{"id":"../x","argv":["true"]}` + "\n" + "{\"argv\":[\"\xff\"]}" + "\n" + `{"argv":[]}`,
		`{"payload":{"command":"x"}}` + "\n" + `{"payload":null}` + "\n" + `{"payload":[]}`,
		`{"gpus":1}` + "\n" + `{"comand":"x"}` + "\n" + `null` + "\n" + `[]` + "\n" + `{` + "\n" + `{"id":"a"} {"id":"b"}`,
		strings.Repeat(`{"payload":`, 300),
		`{"argv":["true"],"argv":["false"],"ID":"x","priority":1e3,"retries":99999999999}`,
	} {
		f.Add([]byte(seed))
	}
	cfg, err := config.Load(config.Given{WorkspaceFlag: f.TempDir(), Cwd: "/"})
	if err != nil {
		f.Fatal(err)
	}
	s := newSession(Env{Cwd: "/"})
	read := func(content []byte) *lineReader {
		return &lineReader{s: s, cfg: cfg, origin: "/f", ambient: []string{"PATH=/bin"}, in: bufio.NewReader(bytes.NewReader(content))}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		first, second := read(content), read(content)
		for last := 0; ; {
			line, err := first.next()
			again, errAgain := second.next()
			if errors.Is(err, io.EOF) {
				break
			}
			bad, isBad := errors.AsType[*badLineError](err)
			if err != nil && !isBad {
				t.Fatalf("the file cannot be read on: %v", err)
			}
			if isBad {
				line.number = bad.number
				if said := bad.Error(); errAgain == nil || said != errAgain.Error() || bad.err.Error() == "" {
					t.Fatalf("%q, and the second time %v", said, errAgain)
				}
			} else {
				wantSendable(t, line)
				if !proto.Equal(line.req, again.req) {
					t.Fatalf("line %d is %v, and the second time %v", line.number, line.req, again.req)
				}
			}
			if line.number <= last || line.number > bytes.Count(content, []byte("\n"))+1 {
				t.Fatalf("line %d comes after line %d", line.number, last)
			}
			last = line.number
		}
	})
}

// wantSendable fails unless a request is complete and fits onto the wire.
func wantSendable(t *testing.T, line taskLine) {
	t.Helper()
	if _, err := proto.Marshal(line.req); err != nil {
		t.Fatalf("line %d cannot be sent: %v", line.number, err)
	}
	spec := line.req.GetSpec()
	if line.req.GetId() == "" || spec.GetDir() == "" || spec.GetTimeoutMs() < 0 || spec.GetRetries() < 0 {
		t.Fatalf("line %d is incomplete: %v", line.number, line.req)
	}
	if p := spec.GetPayloadJson(); len(p) > 0 && !json.Valid(p) {
		t.Fatalf("line %d has a payload that is no JSON: %q", line.number, p)
	}
}
