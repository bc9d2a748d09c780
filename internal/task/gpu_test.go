package task_test

import (
	"reflect"
	"testing"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestGPUWords(t *testing.T) {
	r := task.Resources{CPUMilli: 1, GPUs: 2, GPUMem: 3, GPUModel: "H100", MIG: "1g.10gb"}
	if got, want := r.GPURequest(), (gpu.Request{GPUs: 2, Bytes: 3, Model: "H100", MIG: "1g.10gb"}); got != want {
		t.Errorf("request %+v, want %+v", got, want)
	}
	if !(task.Resources{CPUMilli: 1}).GPURequest().None() {
		t.Error("a task without GPUs asks for some")
	}
	l := task.Lease{GPUs: []string{"GPU-a", "GPU-b"}, GPUMem: 7}
	if got, want := l.GPULease("train"), (gpu.Lease{Holder: "train", Devices: []gpu.DeviceID{"GPU-a", "GPU-b"}, Bytes: 7}); !reflect.DeepEqual(got, want) {
		t.Errorf("lease %+v, want %+v", got, want)
	}
}
