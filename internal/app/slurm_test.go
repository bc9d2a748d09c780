package app

import (
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestTemplatesAwayAreOfJobsAlone: a folder of templates that is not there keeps nobody from
// submitting what never becomes a job.
func TestTemplatesAwayAreOfJobsAlone(t *testing.T) {
	t.Parallel()
	c := config.Default(t.TempDir())
	c.Slurm.Templates = filepath.Join(t.TempDir(), "away")
	c.Classes = map[string]config.Class{"far": {Backends: []string{"process", "slurm"}}, "short": {Backends: []string{"worker"}}}
	for _, s := range []struct {
		spec task.Spec
		code task.Code
	}{
		{task.Spec{Class: "far"}, task.CodeUnavailable},
		{task.Spec{Class: "short"}, task.CodeInternal}, // no error
		{task.Spec{Class: "far", Backends: []string{"process"}}, task.CodeInternal},
		{task.Spec{Class: "short", Payload: []byte(`{"template":"x"}`)}, task.CodeUnavailable},
	} {
		from, err := newJobs(c).Template(&s.spec)
		if task.CodeOf(err) != s.code || s.code == task.CodeInternal && err != nil || from.Name != "" {
			t.Errorf("%+v: %v, %v", s.spec, from, err)
		}
		if err := newJobs(c).Check(&s.spec); task.CodeOf(err) != s.code || s.code == task.CodeInternal && err != nil {
			t.Errorf("%+v: %v", s.spec, err)
		}
	}
}
