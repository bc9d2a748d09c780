package gpu

import (
	"slices"
	"time"
)

// FormatVersion is the version of Snapshot's JSON. Fields may come to it; those
// that are there keep name and meaning.
const FormatVersion = 1

// Snapshot is all GPUs of a machine at one moment. Nobody changes one that was
// handed out. How old is too old, its reader decides, by the clock it received
// it by.
type Snapshot struct {
	Format  int       `json:"format"`
	Seq     uint64    `json:"seq"` // counts up within one run of the probe
	At      time.Time `json:"at"`
	Source  Source    `json:"source"`
	Driver  Driver    `json:"driver"`
	Devices []Device  `json:"devices"` // by PCI address; instances after their parent
	// Unreadable are GPUs that the driver counts and gives no handle for: it does
	// not even say which they are.
	Unreadable []Unreadable `json:"unreadable,omitempty"`
	Links      []Link       `json:"links,omitempty"` // between whole GPUs, each pair once
}

// Source is who asked the driver.
type Source string

// The sources.
const (
	SourceNVML Source = "nvml"
	// SourceSMI is nvidia-smi, which says less: no events, no links.
	SourceSMI Source = "nvidia-smi"
)

// Driver is NVIDIA's driver, or why there is none.
type Driver struct {
	Code    Code   `json:"code"` // of NVML's start
	Problem string `json:"problem,omitempty"`
	Version string `json:"version,omitempty"`
	NVML    string `json:"nvml,omitempty"`
	CUDA    string `json:"cuda,omitempty"` // the newest that it runs, "12.4"
	Library string `json:"library,omitempty"`
}

// Unreadable is a GPU without a handle.
type Unreadable struct {
	Index int  `json:"index"`
	Code  Code `json:"code"`
}

// Link is how close two GPUs are.
type Link struct {
	A     DeviceID `json:"a"` // A < B
	B     DeviceID `json:"b"`
	Level Level    `json:"level"`
	// NVLinks between the two. Where a switch connects all, the links of the
	// poorer one of the two.
	NVLinks int `json:"nvlinks,omitempty"`
}

// Level is the nearest part of the machine that two GPUs share: NVML's
// nvmlGpuTopologyLevel_t, in nvidia-smi's words.
type Level string

// The levels, nearest first. "" = not known.
const (
	LevelBoard      Level = "INT"  // one board
	LevelSwitch     Level = "PIX"  // one PCIe switch
	LevelSwitches   Level = "PXB"  // several PCIe switches
	LevelHostBridge Level = "PHB"  // the CPU's host bridge
	LevelNode       Level = "NODE" // host bridges of one NUMA node
	LevelSystem     Level = "SYS"  // between NUMA nodes
)

// Device returns the device with that id, or nil.
func (s *Snapshot) Device(id DeviceID) *Device {
	i := slices.IndexFunc(s.Devices, func(d Device) bool { return d.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Devices[i]
}
