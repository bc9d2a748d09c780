package process

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// envNoPidfds makes the supervisor of a test be on a kernel without pidfds.
const envNoPidfds = "DSPY_TEST_NO_PIDFDS"

// envHasty makes the supervisor of a test look for litter soon, and keep its log
// small.
const envHasty = "DSPY_TEST_HASTY"

// arrangeSupervisor is for the process that becomes the supervisor of a test.
func arrangeSupervisor() {
	if os.Getenv(envNoPidfds) != "" {
		forkWithPidfd = false
		pidfdOpen = func(int, int) (int, error) { return -1, unix.ENOSYS }
	}
	if os.Getenv(envHasty) != "" {
		sweepGrace, logLimit, cardEvery = 100*time.Millisecond, 4<<10, 50*time.Millisecond
	}
}

// TestMain lets the test binary be the supervisor of its own tests.
func TestMain(m *testing.M) {
	if IsSupervisor(os.Args) {
		arrangeSupervisor()
		os.Exit(SupervisorMain(os.Args[2:]))
	}
	if hostsMain() {
		return
	}
	// The race detector would have every supervisor sleep a second when it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	// The library of rotated logs has a goroutine that never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}
