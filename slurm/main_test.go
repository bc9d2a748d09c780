package slurm

import (
	"os"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
)

func TestMain(m *testing.M) { os.Exit(slurmtest.Main(m)) }
