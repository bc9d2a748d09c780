package slurm

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
)

// atATime is how many tests run beside one another unless -parallel says otherwise: they wait
// for Slurm far more than they compute.
const atATime = "12"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atATime); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(slurmtest.Main(m))
}
