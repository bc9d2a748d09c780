package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func TestSubmit(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a\n", "", "submit", "--id", "a", "--retries", "2", "--timeout", "1h", "--after", "x:any", "--after", "n:s:y", "--env", "SEED=1,2",
		"--payload", `{"n": 1}`, "--priority", "5", "--", "python", "t r.py", "--wait")
	spec := f.find("a").GetSpec()
	for _, c := range []struct{ what, got, want string }{
		{"argv", fmt.Sprintf("%q", spec.GetArgv()), `["python" "t r.py" "--wait"]`},
		{"dir", spec.GetDir(), env.Cwd},
		{"env", strings.Join(spec.GetEnv(), " "), "SEED=1,2"},
		{"ambient", strings.Join(spec.GetAmbientEnv(), " "), "HOME=/home/ada LANG=C.UTF-8 PATH=/usr/bin:/bin"},
		{"payload", string(spec.GetPayloadJson()), `{"n": 1}`},
		{"timeout", fmt.Sprint(spec.GetTimeoutMs()), "3600000"},
		{"after", fmt.Sprint(spec.GetAfter()[0].GetId(), spec.GetAfter()[0].GetWhen(), spec.GetAfter()[1].GetId(), spec.GetAfter()[1].GetWhen()), "xanyn:s:yok"},
		{"name", f.find("a").GetName(), "python 't r.py' --wait"},
		{"priority", fmt.Sprint(f.find("a").GetPriority()), "5"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
	expect(t, env, exitDone, `"existing":true`, "", "submit", "--id", "a", "--json", "--", "python")
	f.refuse["b"] = "id b is taken by another task"
	expect(t, env, exitRefused, "", "refused: id b is taken", "submit", "--id", "b", "--", "true")
	f.refuse["c"] = "waits for x:bad, which the queue does not know"
	expect(t, env, exitRefused, "", "condition: they are ok, any and notok", "submit", "--id", "c", "--after", "x:bad", "--", "true")
	expect(t, env, exitRefused, "", "does not know\n", "submit", "--id", "c", "--after", "x:2", "--", "true")
}

// TestSubmitRefusesWhatMeansNothing before the daemon is asked.
func TestSubmitRefusesWhatMeansNothing(t *testing.T) {
	_, env := startFake(t)
	for _, c := range []struct{ flag, value, words string }{
		{"--on-lost", "maybe", "--on-lost maybe: it is fail, or retry"},
		{"--mem", "4G", "such as 4GiB (of 1024) or 500MB (of 1000)"},
		{"--mem", "4000", "give a size with its unit"},
		{"--mem", "0MB", "give a size"},
	} {
		expect(t, env, exitUsage, "", c.words, "submit", c.flag, c.value, "--", "true")
	}
}

func TestSubmitWarnsOfWhatCannotStart(t *testing.T) {
	f, env := startFake(t)
	f.warn = map[string]string{"big": "it needs 99 CPUs", "two": "it needs 1 TiB"}
	expect(t, env, exitDone, "big\n", "warning: task big was accepted, but it needs 99 CPUs\n", "submit", "--id", "big", "--cpus", "99", "--mem", "4GiB", "--", "sleep")
	expect(t, env, exitDone, "needs      99 CPUs, 4.0 GiB of memory\nenv        3 variables taken along\n", "", "show", "big")
	expect(t, env, exitDone, `"resources":{"cpus":99,"mem_bytes":4294967296}`, "", "show", "big", "--json")
	env.Stdin = strings.NewReader(`{"id": "one", "argv": ["true"]}` + "\n" + `{"id": "two", "argv": ["true"]}`)
	expect(t, env, exitDone, "one\ntwo\n", "warning: 1 task cannot start as things are; the first of them, line 2: it needs 1 TiB\n", "submit", "--from-file", "-")
}

// TestAllOfAChunkIsTold: what was done behind the task that ended the run is done.
func TestAllOfAChunkIsTold(t *testing.T) {
	var out, errs bytes.Buffer
	env := testEnv(t)
	env.Stdout, env.Stderr = &out, &errs
	gone := task.Errorf(task.CodeUnavailable, "the daemon went away")
	v := verb{do: func(_ context.Context, _ *client, id string) (verdict, error) {
		if id == "a" {
			return verdict{}, gone
		}
		return verdict{said: "cancelled", kind: "cancelled"}, nil
	}}
	r := bulkRun{s: newSession(env)}
	if err := r.chunk(t.Context(), nil, v, []*pb.TaskInfo{{Id: "a"}, {Id: "b"}}); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if out.String() != "b cancelled\n" || r.count["cancelled"] != 1 {
		t.Errorf("told %q, counted %v", &out, r.count)
	}
}

func TestSubmitReadsPayloads(t *testing.T) {
	f, env := startFake(t)
	if err := os.WriteFile(filepath.Join(env.Cwd, "p.json"), []byte(`{"from": "file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	env.Stdin = strings.NewReader(`{"from": "stdin"}`)
	expect(t, env, exitDone, "f\n", "", "submit", "--id", "f", "--payload", "@p.json", "--", "true")
	expect(t, env, exitDone, "s\n", "", "submit", "--id", "s", "--payload", "-", "--", "true")
	for id, want := range map[string]string{"f": `{"from": "file"}`, "s": `{"from": "stdin"}`} {
		if got := string(f.find(id).GetSpec().GetPayloadJson()); got != want {
			t.Errorf("%s: got %s", id, got)
		}
	}
}

func TestSubmitRefusesLongPayloads(t *testing.T) {
	_, env := startFake(t)
	env.Stdin = strings.NewReader(`{"x": "` + strings.Repeat("x", 10<<20) + `"}`)
	expect(t, env, exitUsage, "", "longer than the 4194304 bytes that are allowed", "submit", "--payload", "-", "--", "true")
}
