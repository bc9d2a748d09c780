package probe

import "context"

func askHealth(ctx context.Context, t Target) (string, error) {
	if t.Engine == nil {
		return "", fail(ErrNotAsked, nil, "the container's health is not known: there is no engine to ask")
	}
	status, output, err := t.Engine.Health(ctx, t.Container)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ended(ctx, "the engine did not say how the container is")
	case err != nil:
		return "", fail(ErrNotAsked, err, "the container's health is not known: %v", err)
	}
	switch status {
	case "healthy":
		return "its health check says healthy", nil
	case "", "none":
		return "", fail(ErrNoCheck, nil, "the container has no health check of its own: write another kind of probe, or give the container one")
	default:
		return "", fail(ErrFailed, nil, "%s", because("its health check says "+plain(status), output))
	}
}
