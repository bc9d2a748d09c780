package api_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVar makes the test binary play another process, under another uid.
const roleVar = "API_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleVar); role {
	case "":
		goleak.VerifyTestMain(m)
		return
	case "knock":
		err = knock(os.Args[1])
	case "serve":
		err = serveUntilEOF()
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
