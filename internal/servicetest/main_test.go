package servicetest_test

import (
	"os"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

func TestMain(m *testing.M) { os.Exit(dockertest.Main(m)) }
