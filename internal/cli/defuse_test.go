package cli

import (
	"encoding/json"
	"strings"
	"testing"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// nasty is text that would set the title, hide a line and reorder what follows.
const nasty = "x\x1b]0;owned\x07\u009b2K\u202egnp\ny"

// TestNothingActsOnTheTerminal: whatever the daemon says, no command lets it reach
// the terminal, and text in a pipe neither.
func TestNothingActsOnTheTerminal(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "false")
	info := f.find("a")
	info.Name, info.Class, info.Backend, info.Detail, info.LogPath = nasty, nasty, nasty, nasty, "/logs/"+nasty
	info.Outcome.Message, info.Outcome.Node, info.Outcome.FailureClass = nasty, nasty, nasty
	info.Spec.Argv, info.Spec.Dir, info.Spec.PayloadJson = []string{nasty, nasty}, "/"+nasty, []byte(`{"a": "`+nasty+`"}`)
	info.Spec.After = []*pb.Dependency{{Id: nasty, When: nasty}}
	info.Past = []*pb.AttemptInfo{{Number: 1, State: nasty, Backend: nasty, Outcome: info.Outcome}}
	info.ResultJson = []byte("{\"r\": \"\u009b2K\x7f\"}")
	f.services = map[string]string{nasty: nasty, "process": "down: " + nasty}
	f.refuse["no"] = nasty
	for _, args := range []string{
		"ps", "show a", "why a", "wait a", "cancel a", "cancel --state failed", "status", "doctor", "result a", "submit --id no -- true",
		"ps --json", "show a --json", "status --json", "why a --json",
	} {
		_, screen := newTerminal(t, 100, 24).run(t, withoutColour(env), strings.Fields(args)...)
		_, out, errs := dspyAgent(t, env, strings.Fields(args)...)
		for where, text := range map[string]string{"terminal": screen, "pipe": out + errs} {
			if where == "pipe" && (strings.Contains(args, "json") || strings.HasPrefix(args, "result")) {
				continue // for programs, as it is
			}
			if i := strings.IndexFunc(text, func(r rune) bool { return actsOnTerminal(r) && r != '\n' && r != '\t' && r != '\r' }); i >= 0 {
				t.Errorf("%s in a %s: %q", args, where, text[max(0, i-20):min(len(text), i+20)])
			}
		}
	}
}

func withoutColour(env Env) Env {
	env.Environ = append(env.Environ, "NO_COLOR=1")
	return env
}

// TestJSONIsNotDefused: a program gets what there is, on a terminal in escapes that
// mean the same.
func TestJSONIsNotDefused(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "false")
	f.find("a").Name = nasty
	_, out, _ := dspyAgent(t, env, "show", "a", "--json")
	_, screen := newTerminal(t, 100, 24).run(t, env, "show", "a", "--json")
	screen, _, _ = strings.Cut(screen, "<end")
	for where, text := range map[string]string{"pipe": out, "terminal": screen} {
		var got struct{ Name string }
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Name != nasty {
			t.Errorf("%s: %q, %v", where, got.Name, err)
		}
	}
}

// TestDefuseReachesEveryString, wherever in a message it is.
func TestDefuseReachesEveryString(t *testing.T) {
	m := &pb.GetTaskStatusResponse{TaskId: nasty, Result: map[string]string{nasty: nasty, "k": "v"}}
	defuseMessage(m)
	want := "x?]0;owned??2K?gnp y"
	if m.GetTaskId() != want || len(m.GetResult()) != 2 || m.GetResult()[want] != want || m.GetResult()["k"] != "v" {
		t.Errorf("got %q", m)
	}
	list := &pb.ListTasksResponse{Tasks: []*pb.TaskInfo{{Spec: &pb.TaskSpec{Argv: []string{"ok", nasty}, PayloadJson: []byte(nasty)}}}}
	defuseMessage(list)
	spec := list.GetTasks()[0].GetSpec()
	if spec.GetArgv()[0] != "ok" || spec.GetArgv()[1] != want || string(spec.GetPayloadJson()) != nasty {
		t.Errorf("got %q", spec)
	}
	health := &pb.HealthResponse{Classes: []*pb.ClassStatus{{Class: "c", States: map[string]int64{nasty: 3}}}}
	defuseMessage(health)
	if health.GetClasses()[0].GetStates()[want] != 3 {
		t.Errorf("got %q", health)
	}
}

// TestFileNamesAreDefused: what a person typed or a file is called is not trusted
// either.
func TestFileNamesAreDefused(t *testing.T) {
	env := testEnv(t)
	_, _, errs := dspyAgent(t, env, "submit", "--from-file", "a\x1b[2Kb")
	if strings.Contains(errs, "\x1b") || !strings.Contains(errs, "a?[2Kb: no such file") {
		t.Errorf("got %q", errs)
	}
}
