package probe

import (
	"context"
	"fmt"
)

// Exit codes of a command that could not be started, by the shells' convention, which
// container engines follow.
const (
	exitNotRunnable = 126
	exitNotFound    = 127
)

func askExec(ctx context.Context, s Spec, t Target) (string, error) {
	if t.Engine == nil {
		return "", fail(ErrNotAsked, nil, "a command cannot be run in the container: there is no engine to ask")
	}
	exit, output, err := t.Engine.Exec(ctx, t.Container, s.Command)
	name := plain(s.Command[0])
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ended(ctx, name+" did not end")
	case err != nil:
		return "", fail(ErrNotAsked, err, "%s was not run in the container: %v", name, err)
	case exit == 0:
		return name + " ended with 0", nil
	case exit == exitNotFound || exit == exitNotRunnable:
		return "", fail(ErrFailed, nil, "%s", because(name+" cannot be run in the container; does the image have it?", output))
	default:
		return "", fail(ErrFailed, nil, "%s", because(fmt.Sprintf("%s ended with %d", name, exit), output))
	}
}
