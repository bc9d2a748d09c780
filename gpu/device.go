package gpu

import "time"

// DeviceID is the UUID of a GPU ("GPU-...") or of a MIG instance ("MIG-..."),
// and the only key: indexes change with a reboot.
type DeviceID string

// Kind is what a device is.
type Kind string

// The kinds.
const (
	Whole     Kind = "gpu"
	MIG       Kind = "mig"        // an instance: memory and processors of its own
	MIGParent Kind = "mig_parent" // a GPU that is cut into instances, and given out only as these
)

// Device is a GPU or MIG instance: who it is, and how it was at one moment.
type Device struct {
	ID     DeviceID `json:"id"`
	Kind   Kind     `json:"kind"`
	Model  string   `json:"model,omitempty"` // "NVIDIA H100 80GB HBM3"
	Serial string   `json:"serial,omitempty"`
	Index  int      `json:"index"` // NVML's, for people; of a MIG instance, its parent's
	Minor  int      `json:"minor"` // N of /dev/nvidiaN; -1 = not known
	// CUDAIndex is the rank by PCI address among the GPUs: its number for CUDA
	// under CUDA_DEVICE_ORDER=PCI_BUS_ID. -1 = not known.
	CUDAIndex   int    `json:"cuda_index"`
	PCI         string `json:"pci,omitempty"` // "0000:07:00.0", as in /sys
	NUMANode    int    `json:"numa_node"`     // -1 = not known
	TotalBytes  int64  `json:"total_bytes"`
	ComputeCap  string `json:"compute_cap,omitempty"` // "9.0"
	Persistence *bool  `json:"persistence,omitempty"` // whether the driver stays loaded without a client
	ECC         *bool  `json:"ecc,omitempty"`
	MIGMode     *bool  `json:"mig_mode,omitempty"`    // nil: the model cannot be cut
	MIGPending  *bool  `json:"mig_pending,omitempty"` // the mode after the next reset
	// Events are the kinds of events that the driver tells of this device; a mask.
	Events uint64 `json:"events,omitempty"`

	// Of a MIG instance.
	Parent  DeviceID `json:"parent,omitempty"`
	GI      int      `json:"gi"` // GPU instance, -1 = none
	CI      int      `json:"ci"` // compute instance, -1 = none
	Profile string   `json:"profile,omitempty"`
	SMs     int      `json:"sms,omitempty"`

	Sample Sample `json:"sample"`
}

// Sample is one look at a device. nil = the driver did not say; it is not 0.
type Sample struct {
	// UsedBytes is without what the driver keeps for itself, which is
	// ReservedBytes; older drivers count the two together, and then
	// UsedIncludesReserve is set.
	UsedBytes           *int64 `json:"used_bytes,omitempty"`
	FreeBytes           *int64 `json:"free_bytes,omitempty"`
	ReservedBytes       *int64 `json:"reserved_bytes,omitempty"`
	UsedIncludesReserve bool   `json:"used_includes_reserve,omitempty"`

	GPUPercent    *int `json:"gpu_percent,omitempty"`
	MemoryPercent *int `json:"memory_percent,omitempty"` // of the time in which memory was read or written

	TemperatureC   *int    `json:"temperature_c,omitempty"`
	SlowdownC      *int    `json:"slowdown_c,omitempty"` // the temperature at which it slows itself down
	PowerMilliW    *uint64 `json:"power_mw,omitempty"`
	PowerCapMilliW *uint64 `json:"power_cap_mw,omitempty"`
	// EnergyMilliJ is since the driver was loaded, at EnergyAt: it is dear, and may
	// be older than the rest.
	EnergyMilliJ   *uint64    `json:"energy_mj,omitempty"`
	EnergyAt       *time.Time `json:"energy_at,omitempty"`
	SMClockMHz     *int       `json:"sm_clock_mhz,omitempty"`
	MemoryClockMHz *int       `json:"memory_clock_mhz,omitempty"`
	ClockReasons   *uint64    `json:"clock_reasons,omitempty"` // NVML's nvmlClocksEventReason bits

	ComputeMode ComputeMode `json:"compute_mode,omitempty"`

	ECCUncorrected *uint64      `json:"ecc_uncorrected,omitempty"` // since the driver was loaded
	Remapped       *RemappedRow `json:"remapped_rows,omitempty"`
	RecoveryAction *int         `json:"recovery_action,omitempty"` // NVML's nvmlDeviceGpuRecoveryAction_t; 0 = none

	// Processes are those that compute on it. ProcessesAt is when they were
	// listed; nil: the driver lists none here.
	Processes   []Process  `json:"processes,omitempty"` // by pid
	ProcessesAt *time.Time `json:"processes_at,omitempty"`

	// Failed is what could not be read, and how the driver refused. What does not
	// exist on the device is not in it.
	Failed []Failure `json:"failed,omitempty"`
}

// ComputeMode says how many programs may compute on a device.
type ComputeMode string

// The modes. "" = the driver did not say.
const (
	ComputeShared     ComputeMode = "default"
	ComputeExclusive  ComputeMode = "exclusive_process"
	ComputeProhibited ComputeMode = "prohibited"
)

// RemappedRow is the state of a memory's spare rows.
type RemappedRow struct {
	Corrected   int  `json:"corrected"`
	Uncorrected int  `json:"uncorrected"`
	Pending     bool `json:"pending"` // a row waits for the next reset
	Failed      bool `json:"failed"`  // there was no spare row left
}

// Failure is one thing that could not be read.
type Failure struct {
	What string `json:"what"` // the function of NVML
	Code Code   `json:"code"`
}

// Lost returns the answer that said the device is gone, or Success.
func (d *Device) Lost() Code {
	for _, f := range d.Sample.Failed {
		if f.Code.Lost() {
			return f.Code
		}
	}
	return Success
}
