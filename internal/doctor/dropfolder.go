package doctor

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkDropFolder says whether files are taken. Nothing is from a folder that others can
// write to.
func checkDropFolder(_ context.Context, x *examination, cfg config.Config) []Finding {
	if err := x.DropFolder(cfg.QueueDir); err != nil {
		return bad(Problem, "no file of the drop folder is taken, and no outcome written: "+err.Error(), "do what the sentence says; what waits there is taken then")
	}
	n, err := x.Rejected(cfg.QueueDir)
	if err != nil {
		return bad(Problem, "what was rejected in the drop folder cannot be counted: "+err.Error(), "do what the sentence says")
	}
	if n > 0 {
		what := "1 file of the drop folder cannot be a task, and lies"
		if n > 1 {
			what = fmt.Sprintf("%d files of the drop folder cannot be tasks, and lie", n)
		}
		return bad(Note, what+" in "+filepath.Join(cfg.QueueDir, "rejected"), "the .error file beside each says why; mend it and move it back to pending/, or remove both")
	}
	return good("nobody else can write to the drop folder in %s", cfg.QueueDir)
}
