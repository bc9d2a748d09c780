package task_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestParseShape: what Shape has put into a shape, ParseShape finds.
func TestParseShape(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := task.Spec{
			Class: rapid.String().Draw(rt, "class"), Image: rapid.String().Draw(rt, "image"),
			Resources: task.Resources{
				CPUMilli: rapid.Int64Range(0, 1<<40).Draw(rt, "cpu"), MemBytes: rapid.Int64Range(0, 1<<60).Draw(rt, "mem"),
			},
			Backends: rapid.SliceOf(rapid.String()).Draw(rt, "backends"),
		}
		class, cpu, mem, ok := task.ParseShape(s.Shape())
		if !ok || class != s.Class || cpu != s.Resources.CPU() || mem != s.Resources.MemBytes {
			rt.Fatalf("%q is of class %q with %d and %d (%v), and should be of %+v", s.Shape(), class, cpu, mem, ok, s)
		}
	})
	for _, bad := range []string{"", "3", "3:a", "-1:", "1:a", "1:a1:b", "1:a1:!1:0", "99999999999999999999:a"} {
		if _, _, _, ok := task.ParseShape(bad); ok {
			t.Errorf("%q is no shape", bad)
		}
	}
}

// TestShapeImage: the image is found whatever else the shape has.
func TestShapeImage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := task.Spec{
			Class: rapid.String().Draw(rt, "class"), Image: rapid.String().Draw(rt, "image"), Builtin: rapid.String().Draw(rt, "builtin"),
			Resources: task.Resources{GPUModel: rapid.String().Draw(rt, "model"), MIG: rapid.String().Draw(rt, "mig")},
			Needs:     rapid.SliceOf(rapid.String()).Draw(rt, "needs"),
		}
		if got := task.ShapeImage(s.Shape()); got != s.Image {
			rt.Fatalf("%q has the image %q, and should have %q", s.Shape(), got, s.Image)
		}
	})
	if got := task.ShapeImage("nothing"); got != "" {
		t.Errorf("what is no shape has the image %q", got)
	}
}
