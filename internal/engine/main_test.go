package engine_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := chooseChecks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m)
}

// chooseChecks says how many random histories are tried: thirty, or ten times as
// many in the long run, unless -rapid.checks was given. Each has a database on
// disk and a daemon's life in it, so that rapid's hundred take longer than all
// other tests of the package.
func chooseChecks() error {
	const checks = "rapid.checks"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == checks })
	switch {
	case given:
		return nil
	case os.Getenv("DSPY_TEST_FULL") != "":
		return flag.Set(checks, "300")
	default:
		return flag.Set(checks, "30")
	}
}
