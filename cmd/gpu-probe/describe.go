package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// describe prints a snapshot for people.
func describe(w io.Writer, s *gpu.Snapshot) {
	if s.Driver.Code != gpu.Success {
		fmt.Fprintf(w, "no GPU can be read: %s (%s)\n", s.Driver.Problem, s.Driver.Code)
		return
	}
	fmt.Fprintf(w, "driver %s, NVML %s, CUDA up to %s, %s\n", s.Driver.Version, s.Driver.NVML, s.Driver.CUDA, s.Driver.Library)
	for i := range s.Devices {
		describeDevice(w, &s.Devices[i])
	}
	for _, u := range s.Unreadable {
		fmt.Fprintf(w, "GPU with index %d cannot be read: %s\n", u.Index, u.Code)
	}
	for _, l := range s.Links {
		fmt.Fprintf(w, "%s - %s: %s, %d NVLinks\n", l.A, l.B, l.Level, l.NVLinks)
	}
}

func describeDevice(w io.Writer, d *gpu.Device) {
	fmt.Fprintf(w, "%s  %s", d.ID, d.Model)
	if d.Kind == gpu.MIG {
		fmt.Fprintf(w, " %s (instance %d/%d of %s)", d.Profile, d.GI, d.CI, d.Parent)
	}
	fmt.Fprintf(w, "\n    %s, CUDA index %d, /dev/nvidia%d, NUMA node %d, compute %s\n", d.PCI, d.CUDAIndex, d.Minor, d.NUMANode, d.ComputeCap)
	m := &d.Sample
	var facts []string
	fact := func(format string, args ...any) { facts = append(facts, fmt.Sprintf(format, args...)) }
	if m.UsedBytes != nil {
		fact("%d of %d MiB used", *m.UsedBytes>>20, d.TotalBytes>>20)
	}
	if m.GPUPercent != nil {
		fact("%d %% busy", *m.GPUPercent)
	}
	if m.TemperatureC != nil {
		fact("%d °C", *m.TemperatureC)
	}
	if m.PowerMilliW != nil {
		fact("%d W", *m.PowerMilliW/1000)
	}
	if m.ECCUncorrected != nil {
		fact("%d uncorrected memory errors", *m.ECCUncorrected)
	}
	fact("%d processes", len(m.Processes))
	fmt.Fprintf(w, "    %s\n", strings.Join(facts, ", "))
	for _, f := range m.Failed {
		fmt.Fprintf(w, "    %s: %s\n", f.What, f.Code)
	}
}
