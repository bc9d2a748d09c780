// Package app builds the parts of the orchestrator, plugs them together, starts
// them and stops them in reverse order.
//
// It owns the wiring and nothing else: no rule of the product is written here.
// Each part that starts registers its teardown at once, so a start that fails
// half-way takes down what it had built, and a stop names the step that hangs.
// Stopping leaves every task running: leaving is not cancelling.
//
// After a crash there is nothing to do here; each part recovers what it owns.
package app
