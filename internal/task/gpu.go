package task

import "github.com/dspy-agent/dspy-agent/gpu"

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
