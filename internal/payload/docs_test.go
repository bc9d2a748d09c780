package payload_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

var update = flag.Bool("update", false, "write the refusals of docs/payloads.md anew")

const document = "../../docs/payloads.md"

// documented is how the document writes what a payload becomes.
type documented struct {
	Builtin      string         `json:"builtin"`
	Argv         []string       `json:"argv"`
	Image        string         `json:"image"`
	Env          []string       `json:"env"`
	Mounts       []task.Mount   `json:"mounts"`
	Resources    task.Resources `json:"resources"`
	Timeout      string         `json:"timeout"`
	Retries      int            `json:"retries"`
	Dir          string         `json:"dir"`
	ContainerDir string         `json:"container_dir"`
	Tenant       string         `json:"tenant"`
	WorkflowID   string         `json:"workflow_id"`
}

func (d documented) spec(t *testing.T) task.Spec {
	t.Helper()
	s := task.Spec{
		Builtin: d.Builtin, Argv: d.Argv, Image: d.Image, Env: d.Env, Mounts: d.Mounts, Resources: d.Resources,
		Retries: d.Retries, Dir: d.Dir, ContainerDir: d.ContainerDir, Tenant: d.Tenant, WorkflowID: d.WorkflowID,
	}
	if d.Timeout != "" {
		var err error
		if s.Timeout, err = time.ParseDuration(d.Timeout); err != nil {
			t.Error(err)
		}
	}
	return s
}

var example = regexp.MustCompile("(?s)```json payload\n(.*?)```\n\n```json becomes\n(.*?)```")

// TestDocumentedExamples runs the examples of the document, each as an object and
// as the texts that gRPC has.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	found := example.FindAllSubmatch(text, -1)
	if n := bytes.Count(text, []byte("```json payload")); len(found) != n || n < 4 {
		t.Fatalf("%d of %d examples say what they become", len(found), n)
	}
	for _, e := range found {
		var want documented
		strict := json.NewDecoder(bytes.NewReader(e[2]))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&want); err != nil {
			t.Errorf("%s: %v", e[2], err)
			continue
		}
		object := parse(t, string(e[1]))
		for _, f := range []payload.Fields{object, payload.FromText(asText(t, object))} {
			got := task.Spec{Class: "cpu_short"}
			err := payload.Resolve(f, types, &got)
			if got.Class = ""; err != nil || !reflect.DeepEqual(got, want.spec(t)) {
				t.Errorf("%s became\n%+v, %v; the document says\n%s", e[1], got, err, e[2])
			}
		}
	}
}

// asText makes of a payload what clients of gRPC make of it: text stays, all
// else is JSON.
func asText(t *testing.T, f payload.Fields) map[string]string {
	t.Helper()
	out := map[string]string{}
	for key, raw := range f {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		out[key] = s
	}
	return out
}

// TestDocumentedRefusals keeps the document's list equal to the tested one.
func TestDocumentedRefusals(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- refusals: made from internal/payload/refusals_test.go -->\n", "<!-- /refusals -->"
	have, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(have), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around its refusals", document)
	}
	want := head + begin + refusalTables() + end + tail
	if want == string(have) {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the tested refusals; run: go test ./internal/payload -run Documented -update", document)
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func refusalTables() string {
	var b strings.Builder
	for _, group := range refusals {
		fmt.Fprintf(&b, "\n### %s\n\n| payload | refused with |\n|---|---|\n", group.about)
		for _, r := range group.list {
			in := ""
			if r.class != "" {
				in = " in class `" + r.class + "`"
			}
			fmt.Fprintf(&b, "| `%s`%s | %s |\n", strings.ReplaceAll(r.payload, "|", `\|`), in, "`"+strings.ReplaceAll(r.answer, "|", `\|`)+"`")
		}
	}
	return b.String() + "\n"
}
