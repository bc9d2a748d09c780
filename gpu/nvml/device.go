//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// device is a GPU, its handle, and what does not change while it is there.
type device struct {
	handle nv.Device
	facts  gpu.Device

	energy *uint64 // as of dearAt
	dearAt time.Time
}

// identify asks who a GPU is. Only its UUID must be known.
func (r *Reader) identify(h nv.Device, index int) (*device, gpu.Code) {
	d := &device{handle: h, facts: gpu.Device{
		Kind: gpu.Whole, Index: index, Minor: -1, CUDAIndex: -1, NUMANode: -1, GI: -1, CI: -1,
	}}
	f := &d.facts
	code := r.call("nvmlDeviceGetUUID", "", func() nv.Return {
		id, ret := h.GetUUID()
		f.ID = gpu.DeviceID(id)
		return ret
	})
	if code != gpu.Success {
		return nil, code
	}
	r.call("nvmlDeviceGetName", f.ID, func() (ret nv.Return) {
		f.Model, ret = h.GetName()
		return ret
	})
	r.call("nvmlDeviceGetSerial", f.ID, func() (ret nv.Return) {
		f.Serial, ret = h.GetSerial()
		return ret
	})
	r.call("nvmlDeviceGetMinorNumber", f.ID, func() nv.Return {
		n, ret := h.GetMinorNumber()
		if ret == nv.SUCCESS {
			f.Minor = n
		}
		return ret
	})
	r.call("nvmlDeviceGetPciInfo", f.ID, func() nv.Return {
		info, ret := h.GetPciInfo()
		if ret == nv.SUCCESS {
			f.PCI = address(info)
			f.NUMANode = numaNode(f.PCI)
		}
		return ret
	})
	r.call("nvmlDeviceGetCudaComputeCapability", f.ID, func() nv.Return {
		major, minor, ret := h.GetCudaComputeCapability()
		if ret == nv.SUCCESS {
			f.ComputeCap = fmt.Sprintf("%d.%d", major, minor)
		}
		return ret
	})
	r.call("nvmlDeviceGetSupportedEventTypes", f.ID, func() (ret nv.Return) {
		f.Events, ret = h.GetSupportedEventTypes()
		return ret
	})
	return d, gpu.Success
}

// numaNode asks the kernel which NUMA node a device of PCI belongs to.
func numaNode(pci string) int {
	text, err := os.ReadFile(filepath.Join("/sys/bus/pci/devices", pci, "numa_node"))
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return -1
	}
	return n
}

// read looks at a GPU, and at the instances that it is cut into.
func (r *Reader) read(d *device) []gpu.Device {
	out := d.facts
	s := &sampler{r: r, h: d.handle, d: &out}
	s.modes()
	s.memory()
	s.load()
	s.health()
	s.dear(d)
	s.processes()
	if out.MIGMode != nil { // else it stays what it was: a cut GPU is not given out whole by mistake
		d.facts.Kind = map[bool]gpu.Kind{false: gpu.Whole, true: gpu.MIGParent}[*out.MIGMode]
	}
	out.Kind = d.facts.Kind
	var instances []gpu.Device
	if out.Kind == gpu.MIGParent {
		instances = s.instances()
	}
	return append([]gpu.Device{out}, instances...)
}

// rank puts devices into the order of their PCI addresses, which is that of CUDA
// under CUDA_DEVICE_ORDER=PCI_BUS_ID, and numbers the GPUs so.
func rank(devices []gpu.Device) {
	slices.SortStableFunc(devices, func(a, b gpu.Device) int { return strings.Compare(a.PCI, b.PCI) })
	n := 0
	for i := range devices {
		switch d := &devices[i]; {
		case d.Kind == gpu.MIG:
			d.CUDAIndex = -1
		case d.PCI != "":
			d.CUDAIndex = n
			n++
		}
	}
}

// address writes a PCI address as /sys does.
func address(info nv.PciInfo) string {
	return fmt.Sprintf("%04x:%02x:%02x.0", info.Domain, info.Bus, info.Device)
}
