package dropfolder

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roles are what the test binary can be instead of a test, for tests that kill it.
var roles = map[string]func(dir string) error{}

const (
	roleEnv = "DSPY_TEST_DROPFOLDER_ROLE"
	dirEnv  = "DSPY_TEST_DROPFOLDER_DIR"
)

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleEnv)]; role != nil {
		if err := role(os.Getenv(dirEnv)); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
