package engine

import "context"

// Recover reads the active tasks, as Run does first.
func (e *Engine) Recover() error {
	_, err := e.recover()
	return err
}

// Round is one turn of the loop.
func (e *Engine) Round(ctx context.Context) error {
	_, err := e.round(ctx, nil)
	return err
}
