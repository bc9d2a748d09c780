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
	goleak.VerifyTestMain(m)
}
