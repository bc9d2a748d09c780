//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// sampler fills one device of one snapshot.
type sampler struct {
	r *Reader
	h nv.Device
	d *gpu.Device
}

// ask makes one call, and notes how it was refused. What does not exist on the
// device is no refusal.
func (s *sampler) ask(name string, f func() nv.Return) gpu.Code {
	code := s.r.call(name, s.d.ID, f)
	if code != gpu.Success && !code.Absent() {
		s.d.Sample.Failed = append(s.d.Sample.Failed, gpu.Failure{What: name, Code: code})
	}
	return code
}

// read asks for one value; nil when it did not come.
func read[V, T any](s *sampler, name string, f func() (V, nv.Return), as func(V) T) *T {
	var v V
	code := s.ask(name, func() (ret nv.Return) {
		v, ret = f()
		return ret
	})
	if code != gpu.Success {
		return nil
	}
	out := as(v)
	return &out
}

func number[V int | uint32 | uint64](v V) int { return int(v) }
func wide[V uint32 | uint64](v V) uint64      { return uint64(v) }
func enabled(v nv.EnableState) bool           { return v == nv.FEATURE_ENABLED }
func computeMode(m nv.ComputeMode) gpu.ComputeMode {
	switch m {
	case nv.COMPUTEMODE_EXCLUSIVE_PROCESS, nv.COMPUTEMODE_EXCLUSIVE_THREAD:
		return gpu.ComputeExclusive
	case nv.COMPUTEMODE_PROHIBITED:
		return gpu.ComputeProhibited
	default:
		return gpu.ComputeShared
	}
}

// modes are what an administrator may change at any time.
func (s *sampler) modes() {
	d := s.d
	d.Persistence = read(s, "nvmlDeviceGetPersistenceMode", s.h.GetPersistenceMode, enabled)
	if m := read(s, "nvmlDeviceGetComputeMode", s.h.GetComputeMode, computeMode); m != nil {
		d.Sample.ComputeMode = *m
	}
	s.ask("nvmlDeviceGetMigMode", func() nv.Return {
		current, pending, ret := s.h.GetMigMode()
		if ret == nv.SUCCESS {
			d.MIGMode, d.MIGPending = new(current == nv.DEVICE_MIG_ENABLE), new(pending == nv.DEVICE_MIG_ENABLE)
		}
		return ret
	})
}

// seldom is how often what is dear is read: on an H100 these two calls take
// 3 ms of a snapshot's 3.5, and sometimes 17.
const seldom = time.Minute

// dear reads what is too dear for every snapshot, or repeats it.
func (s *sampler) dear(known *device) {
	m, now := &s.d.Sample, s.r.now().UTC()
	if known.dearAt.IsZero() || now.Sub(known.dearAt) >= seldom {
		known.dearAt, known.energy, known.facts.ECC = now, nil, nil
		known.energy = read(s, "nvmlDeviceGetTotalEnergyConsumption", s.h.GetTotalEnergyConsumption, wide[uint64])
		s.ask("nvmlDeviceGetEccMode", func() nv.Return {
			current, _, ret := s.h.GetEccMode()
			if ret == nv.SUCCESS {
				known.facts.ECC = new(enabled(current))
			}
			return ret
		})
	}
	s.d.ECC, m.EnergyMilliJ = known.facts.ECC, known.energy
	if known.energy != nil {
		m.EnergyAt = new(known.dearAt)
	}
}

// memory asks in the way that tells the driver's own share apart, and where the
// driver is too old for it (before 510) in the other.
func (s *sampler) memory() {
	m := &s.d.Sample
	code := s.ask("nvmlDeviceGetMemoryInfo_v2", func() nv.Return {
		v, ret := s.h.GetMemoryInfo_v2()
		if ret == nv.SUCCESS {
			s.d.TotalBytes = int64(v.Total)
			m.UsedBytes, m.FreeBytes, m.ReservedBytes = new(int64(v.Used)), new(int64(v.Free)), new(int64(v.Reserved))
		}
		return ret
	})
	if code != gpu.FunctionNotFound && code != gpu.NotSupported {
		return
	}
	s.ask("nvmlDeviceGetMemoryInfo", func() nv.Return {
		v, ret := s.h.GetMemoryInfo()
		if ret == nv.SUCCESS {
			s.d.TotalBytes = int64(v.Total)
			m.UsedBytes, m.FreeBytes, m.UsedIncludesReserve = new(int64(v.Used)), new(int64(v.Free)), true
		}
		return ret
	})
}

// load is how busy and how hot it is.
func (s *sampler) load() {
	m := &s.d.Sample
	s.ask("nvmlDeviceGetUtilizationRates", func() nv.Return {
		u, ret := s.h.GetUtilizationRates()
		if ret == nv.SUCCESS {
			m.GPUPercent, m.MemoryPercent = new(int(u.Gpu)), new(int(u.Memory))
		}
		return ret
	})
	m.TemperatureC = read(s, "nvmlDeviceGetTemperature", func() (uint32, nv.Return) { return s.h.GetTemperature(nv.TEMPERATURE_GPU) }, number[uint32])
	m.SlowdownC = read(s, "nvmlDeviceGetTemperatureThreshold", func() (uint32, nv.Return) {
		return s.h.GetTemperatureThreshold(nv.TEMPERATURE_THRESHOLD_SLOWDOWN)
	}, number[uint32])
	m.PowerMilliW = read(s, "nvmlDeviceGetPowerUsage", s.h.GetPowerUsage, wide[uint32])
	m.PowerCapMilliW = read(s, "nvmlDeviceGetEnforcedPowerLimit", s.h.GetEnforcedPowerLimit, wide[uint32])
	m.SMClockMHz = read(s, "nvmlDeviceGetClockInfo", func() (uint32, nv.Return) { return s.h.GetClockInfo(nv.CLOCK_SM) }, number[uint32])
	m.MemoryClockMHz = read(s, "nvmlDeviceGetClockInfo", func() (uint32, nv.Return) { return s.h.GetClockInfo(nv.CLOCK_MEM) }, number[uint32])
	reasons := func(name string, f func() (uint64, nv.Return)) gpu.Code {
		return s.ask(name, func() nv.Return {
			v, ret := f()
			if ret == nv.SUCCESS {
				m.ClockReasons = &v
			}
			return ret
		})
	}
	if reasons("nvmlDeviceGetCurrentClocksEventReasons", s.h.GetCurrentClocksEventReasons) == gpu.FunctionNotFound {
		reasons("nvmlDeviceGetCurrentClocksThrottleReasons", s.h.GetCurrentClocksThrottleReasons)
	}
}

// health is what tells of a card that ails.
func (s *sampler) health() {
	m := &s.d.Sample
	m.ECCUncorrected = read(s, "nvmlDeviceGetTotalEccErrors", func() (uint64, nv.Return) {
		return s.h.GetTotalEccErrors(nv.MEMORY_ERROR_TYPE_UNCORRECTED, nv.VOLATILE_ECC)
	}, wide[uint64])
	s.ask("nvmlDeviceGetRemappedRows", func() nv.Return {
		corrected, uncorrected, pending, failed, ret := s.h.GetRemappedRows()
		if ret == nv.SUCCESS {
			m.Remapped = &gpu.RemappedRow{Corrected: corrected, Uncorrected: uncorrected, Pending: pending, Failed: failed}
		}
		return ret
	})
	s.ask("nvmlDeviceGetFieldValues", func() nv.Return {
		field := []nv.FieldValue{{FieldId: nv.FI_DEV_GET_GPU_RECOVERY_ACTION}}
		ret := s.h.GetFieldValues(field)
		if ret == nv.SUCCESS {
			ret = nv.Return(field[0].NvmlReturn)
		}
		if ret == nv.ERROR_INVALID_ARGUMENT { // a driver that does not know the field
			return nv.ERROR_NOT_SUPPORTED
		}
		if ret == nv.SUCCESS {
			m.RecoveryAction = new(int(binary.NativeEndian.Uint32(field[0].Value[:])))
		}
		return ret
	})
}

// processes lists what computes on the device.
func (s *sampler) processes() {
	at := s.r.now().UTC()
	s.ask("nvmlDeviceGetComputeRunningProcesses", func() nv.Return {
		list, ret := s.h.GetComputeRunningProcesses()
		if ret == nv.SUCCESS {
			s.d.Sample.ProcessesAt = &at
			for _, p := range list {
				s.d.Sample.Processes = append(s.d.Sample.Processes, process(p))
			}
			slices.SortFunc(s.d.Sample.Processes, func(a, b gpu.Process) int { return cmp.Or(a.PID-b.PID, a.GI-b.GI, a.CI-b.CI) })
		}
		return ret
	})
}

// NVML's words for "not known".
const (
	noMemory   = ^uint64(0)
	noInstance = ^uint32(0)
)

func process(p nv.ProcessInfo) gpu.Process {
	out := gpu.Process{PID: int(p.Pid), UID: -1, GI: instance(p.GpuInstanceId), CI: instance(p.ComputeInstanceId)}
	if p.UsedGpuMemory != noMemory {
		out.UsedBytes = new(int64(p.UsedGpuMemory))
	}
	return out
}

func instance(id uint32) int {
	if id == noInstance {
		return -1
	}
	return int(id)
}
