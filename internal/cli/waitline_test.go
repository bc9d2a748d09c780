package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestWaitInAPipeSaysWhy: a wait that may be for ever says once what it is for; of a task
// that runs there is nothing to say.
func TestWaitInAPipeSaysWhy(t *testing.T) {
	f, env := startFake(t)
	now := time.Now().UnixNano()
	f.tasks = []*pb.TaskInfo{
		{Id: "stuck", State: "pending", Class: "cpu_short", SubmittedAtNs: now},
		{Id: "runs", State: "running", Class: "cpu_short", SubmittedAtNs: now, StartedAtNs: now},
	}
	for id, want := range map[string]int{"stuck": 1, "runs": 0} {
		var out, errs bytes.Buffer
		env.Args, env.Stdout, env.Stderr = []string{Program, "wait", "--timeout", "0.3", id}, &out, &errs
		s := newSession(env)
		s.waitSilence = 10 * time.Millisecond
		if code := s.run(t.Context()); code != exitWaitOver || strings.Count(errs.String(), "still waiting: "+id+" is ") != want {
			t.Errorf("%s: exit %d, %q", id, code, errs.String())
		}
	}
}
