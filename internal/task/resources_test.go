package task_test

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// However little a task asks for, a machine runs only so many.
func TestLeastCPU(t *testing.T) {
	for milli, want := range map[int64]int64{-1: 1000, 0: 1000, 1: task.MinCPUMilli, task.MinCPUMilli: task.MinCPUMilli, 500: 500, 4000: 4000} {
		if got := (task.Resources{CPUMilli: milli}).CPU(); got != want {
			t.Errorf("%d counts as %d, want %d", milli, got, want)
		}
	}
}
