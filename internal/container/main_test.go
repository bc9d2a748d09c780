package container

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

func TestMain(m *testing.M) {
	code := dockertest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}
