package task

import (
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// GPUUse is what an attempt had of GPUs.
type GPUUse struct {
	// Held is how long, all of them together; a share counts by its part.
	Held time.Duration
	// Busy is for how much of that they computed; below 0: nobody knows.
	Busy time.Duration
	Peak int64 // bytes of memory that its processes had at most; 0 = none was seen
}

// GPURequest is what the resources ask of GPUs, in package gpu's words.
func (r Resources) GPURequest() gpu.Request {
	return gpu.Request{GPUs: r.GPUs, Bytes: r.GPUMem, Model: r.GPUModel, MIG: r.MIG}
}

// GPULease is what the lease holds of GPUs, for the task with that id.
func (l Lease) GPULease(id string) gpu.Lease {
	devices := make([]gpu.DeviceID, len(l.GPUs))
	for i, uuid := range l.GPUs {
		devices[i] = gpu.DeviceID(uuid)
	}
	return gpu.Lease{Holder: id, Devices: devices, Bytes: l.GPUMem}
}
