package gpu_test

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// BenchmarkPlan plans 10,000 requests of many sorts over 16 idle GPUs.
func BenchmarkPlan(b *testing.B) {
	w := &world{now: noon}
	var devices []gpu.Device
	for i := range 16 {
		devices = append(devices, device(i))
	}
	w.last = snapshot(noon, devices...)
	w.last.Links = pairs(16)
	w.observe(gpu.Observation{Snapshot: w.last})
	requests := make([]gpu.Request, 10_000)
	for i := range requests {
		switch i % 4 {
		case 0:
			requests[i] = gpu.Request{GPUs: 1 + i/4%8, Model: "a100"}
		case 1:
			requests[i] = gpu.Request{GPUs: 1}
		case 2:
			requests[i] = gpu.Request{Bytes: int64(i) << 22}
		default:
			requests[i] = gpu.Request{MIG: "1g.10gb"}
		}
	}
	for b.Loop() {
		pool := gpu.NewPool(w.verdicts(), w.last.Links, gpu.DefaultSharers)
		for _, r := range requests {
			pool.Take(r)
		}
	}
}

// BenchmarkLargest chooses 8 of 16, the dearest choice there is.
func BenchmarkLargest(b *testing.B) {
	w := &world{now: noon}
	var devices []gpu.Device
	for i := range 16 {
		devices = append(devices, device(i))
	}
	w.last = snapshot(noon, devices...)
	w.last.Links = pairs(16)
	w.observe(gpu.Observation{Snapshot: w.last})
	verdicts := w.verdicts()
	for b.Loop() {
		gpu.NewPool(verdicts, w.last.Links, gpu.DefaultSharers).Take(gpu.Request{GPUs: 8})
	}
}

// BenchmarkSnapshot takes a snapshot of 8 GPUs in, and judges them.
func BenchmarkSnapshot(b *testing.B) {
	w := &world{now: noon}
	var devices []gpu.Device
	for i := range 8 {
		d := device(i)
		runs(&d, 1000+i, gib)
		devices = append(devices, d)
	}
	w.last = snapshot(noon, devices...)
	w.last.Links = pairs(8)
	for b.Loop() {
		w.observe(gpu.Observation{Snapshot: w.last})
		w.verdicts()
	}
}
