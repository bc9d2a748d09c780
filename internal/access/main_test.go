package access_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVar makes the test binary play another process, under another uid.
const roleVar = "ACCESS_TEST_ROLE"

// fullVar asks for long rounds (make test-full).
const fullVar = "DSPY_TEST_FULL"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		goleak.VerifyTestMain(m)
		return
	}
	play, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown role %q\n", role)
		os.Exit(2)
	}
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
