package doctor

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkDropFolder says whether files are taken. Nothing is from a folder that others can
// write to.
func checkDropFolder(_ context.Context, x *examination, cfg config.Config) []Finding {
	if err := x.DropFolder(cfg.QueueDir); err != nil {
		return bad(Problem, "no file of the drop folder is taken, and no outcome written: "+err.Error(), "do what the sentence says; what waits there is taken then")
	}
	return good("nobody else can write to the drop folder in %s", cfg.QueueDir)
}
