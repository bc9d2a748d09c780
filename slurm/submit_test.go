package slurm

import (
	"errors"
	"fmt"
	"slices"
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
func (r *rounds) launch(spec task.Spec, seqs ...task.Seq) {
	r.t.Helper()
	for _, seq := range seqs {
		s := spec
		s.ID, s.Class, s.Argv, s.Dir = fmt.Sprint("t", seq), "c", []string{"true"}, "/"
		t, err := task.Apply(task.New(seq, &s, 0), task.Event{Kind: task.EventPlaced, At: task.At(r.now), Attempt: 1, Backend: Name})
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
	r.launch(task.Spec{}, 1)
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

// TestJobsComeInLine: Slurm gets jobs as they stand in our line, but for the few that are
// submitted at the same moment.
func TestJobsComeInLine(t *testing.T) {
	t.Parallel()
	var names []string
	r := newRounds(t, accepting(&names))
	var seqs []task.Seq
	for seq := task.Seq(60); seq > 0; seq-- {
		seqs = append(seqs, seq)
	}
	r.launch(task.Spec{}, seqs...)
	r.launch(task.Spec{Priority: 1}, 100)
	r.pass(20 * time.Second)
	if len(names) != 61 || !slices.Contains(names[:mostSubmits], nameOf("q", task.Ref{Seq: 100, Attempt: 1})) {
		t.Fatalf("submitted are %q", names)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "-100-1") })
	for i, name := range names {
		ref, ok := refOf("q", name)
		if late := int(ref.Seq) - 1 - i; !ok || late >= mostSubmits || late <= -mostSubmits {
			t.Errorf("%s was submitted as number %d", name, i+1)
		}
	}
}
