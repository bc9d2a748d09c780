package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A supervisor that never heard of an attempt says that it did not begin. That is
// believed only if there is surely no output of it.
func TestNotBegunIsChecked(t *testing.T) {
	for what, c := range map[string]struct {
		arrange func(t *testing.T, path string)
		want    task.EventKind
	}{
		"no output": {func(*testing.T, string) {}, task.EventStopped},
		"output":    {func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, task.EventVanished},
		"output nobody can see": {func(t *testing.T, path string) {
			// A link to itself stands for a directory that cannot be looked at: not even
			// root can.
			dir := filepath.Dir(path)
			must(t, os.Remove(dir))
			must(t, os.Symlink(filepath.Base(dir), dir))
		}, task.EventVanished},
	} {
		t.Run(what, func(t *testing.T) {
			b, err := New(newPlace(t).options("q"))
			must(t, err)
			ref := task.Ref{Seq: 1, Attempt: 1}
			must(t, b.layout.Prepare(ref))
			c.arrange(t, b.layout.LogPath(ref))
			r := &supervisorpb.Report{Name: nameOf(ref), Phase: supervisorpb.Report_PHASE_ENDED, End: notBegun()}
			got, _ := b.changes(nil, &origin{}, r, toldNothing)
			if len(got) != 1 || got[0].Event.Kind != c.want {
				t.Errorf("changes %+v, want %s", got, c.want)
			}
		})
	}
}
