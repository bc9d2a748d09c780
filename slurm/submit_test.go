package slurm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// accepting is a Slurm that takes every job, and says which in which order.
func accepting(names *[]string) *scripted {
	return &scripted{settings: Settings{Version: "x"}, submit: func(args []string) (string, error) {
		for _, a := range args {
			if name, ok := strings.CutPrefix(a, "--job-name="); ok {
				*names = append(*names, name)
			}
		}
		return fmt.Sprint(len(*names)), nil
	}}
}

// launch hands tasks over, as the engine does.
func (r *rounds) launch(seqs ...task.Seq) {
	r.t.Helper()
	for _, seq := range seqs {
		spec := &task.Spec{ID: fmt.Sprint("t", seq), Class: "c", Argv: []string{"true"}, Dir: "/"}
		t, err := task.Apply(task.New(seq, spec, 0), task.Event{Kind: task.EventPlaced, At: task.At(r.now), Attempt: 1, Backend: Name})
		if err != nil {
			r.t.Fatal(err)
		}
		if err := r.Launch(r.t.Context(), []task.Task{t}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestTemplateOutOfReach: a file server that is away fails no task.
func TestTemplateOutOfReach(t *testing.T) {
	t.Parallel()
	var names []string
	r := newRounds(t, accepting(&names))
	trouble := errors.New("stale file handle")
	r.opts.Template = func(*task.Spec) (*template.Template, error) {
		if trouble == nil {
			return nil, nil
		}
		return nil, task.Errorf(task.CodeUnavailable, "template c cannot be read now: %w", trouble)
	}
	r.launch(1)
	r.pass(time.Minute)
	j := r.jobs[task.Ref{Seq: 1, Attempt: 1}]
	if j.ended || len(names) > 0 || !strings.Contains(j.note, "stale file handle") {
		t.Fatalf("it ended %t (%+v), submitted are %q, its note is %q", j.ended, r.ended, names, j.note)
	}
	trouble = nil
	r.pass(10 * time.Second)
	if len(names) != 1 {
		t.Errorf("it was submitted %d times", len(names))
	}
}
