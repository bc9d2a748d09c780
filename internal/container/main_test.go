package container

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// full says that this is the long run.
func full() bool { return os.Getenv("DSPY_TEST_FULL") != "" }

func TestMain(m *testing.M) {
	code := dockertest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}
