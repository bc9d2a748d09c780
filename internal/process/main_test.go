package process

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the supervisor of its own tests.
func TestMain(m *testing.M) {
	if IsSupervisor(os.Args) {
		os.Exit(SupervisorMain(os.Args[2:]))
	}
	// The race detector would have every supervisor sleep a second when it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
