//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"strings"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// instances reads what a GPU in MIG mode is cut into. The layout may change at
// any time, so it is asked anew each time.
func (s *sampler) instances() []gpu.Device {
	count := read(s, "nvmlDeviceGetMaxMigDeviceCount", s.h.GetMaxMigDeviceCount, number[int])
	if count == nil {
		return nil
	}
	var all []gpu.Device
	for i := range *count {
		var h nv.Device
		code := s.r.call("nvmlDeviceGetMigDeviceHandleByIndex", s.d.ID, func() (ret nv.Return) {
			h, ret = s.h.GetMigDeviceHandleByIndex(i)
			return ret
		})
		if code == gpu.Success {
			all = append(all, s.instance(h))
		} // else a place where none is: how drivers say so differs
	}
	return all
}

func (s *sampler) instance(h nv.Device) gpu.Device {
	p := s.d
	out := gpu.Device{
		Kind: gpu.MIG, Parent: p.ID, Index: p.Index, Minor: p.Minor, CUDAIndex: -1, PCI: p.PCI, NUMANode: p.NUMANode,
		ComputeCap: p.ComputeCap, Persistence: p.Persistence, ECC: p.ECC, Serial: p.Serial, GI: -1, CI: -1,
	}
	m := &sampler{r: s.r, h: h, d: &out}
	if id := read(m, "nvmlDeviceGetUUID", h.GetUUID, func(v string) gpu.DeviceID { return gpu.DeviceID(v) }); id != nil {
		out.ID = *id
	}
	if name := read(m, "nvmlDeviceGetName", h.GetName, strings.TrimSpace); name != nil {
		out.Model, out.Profile = splitProfile(*name)
	}
	if gi := read(m, "nvmlDeviceGetGpuInstanceId", h.GetGpuInstanceId, number[int]); gi != nil {
		out.GI = *gi
	}
	if ci := read(m, "nvmlDeviceGetComputeInstanceId", h.GetComputeInstanceId, number[int]); ci != nil {
		out.CI = *ci
	}
	if a := read(m, "nvmlDeviceGetAttributes", h.GetAttributes, func(a nv.DeviceAttributes) nv.DeviceAttributes { return a }); a != nil {
		out.SMs = int(a.MultiprocessorCount)
	}
	m.memory()
	// Health is the whole card's; so are the processes, which say their instance.
	out.Sample.ComputeMode, out.Sample.ProcessesAt = p.Sample.ComputeMode, p.Sample.ProcessesAt
	for _, proc := range p.Sample.Processes {
		if proc.GI == out.GI && (proc.CI == out.CI || proc.CI < 0) {
			out.Sample.Processes = append(out.Sample.Processes, proc)
		}
	}
	return out
}

// splitProfile takes an instance's name apart: "NVIDIA A100-SXM4-80GB MIG
// 1g.10gb".
func splitProfile(name string) (model, profile string) {
	model, profile, _ = strings.Cut(name, " MIG ")
	return model, strings.TrimSpace(profile)
}
