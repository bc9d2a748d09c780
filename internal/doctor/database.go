package doctor

import (
	"context"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkDatabase looks at the database of a queue that nobody runs. A daemon looks at it
// itself, and checkParts says what it has found.
func checkDatabase(ctx context.Context, x *examination, cfg config.Config) []Finding {
	if x.liveOwner() != nil {
		return nil
	}
	wrong, looked, err := x.Database(ctx, cfg.QueueDir)
	mend := fmt.Sprintf("queue verify says what is wrong, and queue repair saves the rest, both with --workspace %s", cfg.Workspace)
	switch {
	case err != nil:
		return bad(Problem, err.Error(), "do what the sentence says")
	case len(wrong) == 1:
		return bad(Problem, "the database is damaged: "+wrong[0], mend)
	case len(wrong) > 1:
		return bad(Problem, fmt.Sprintf("the database is damaged: %s (the first of %d findings)", wrong[0], len(wrong)), mend)
	case looked:
		return good("nothing is wrong with the database in %s", cfg.QueueDir)
	default:
		return nil
	}
}
