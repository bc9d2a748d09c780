package engine

// Observe reads what is active, so that Explain can tell how things stand in a queue
// that nobody moves. It takes the place of Run: what is asked of the engine otherwise
// is answered as after the end of Run.
func (e *Engine) Observe() error {
	defer close(e.ended)
	_, err := e.recover()
	return err
}
