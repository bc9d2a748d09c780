//go:build !linux || !cgo || (!amd64 && !arm64)

package nvml

import (
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// Reader reads nothing in this build.
type Reader struct{ now func() time.Time }

// Events never come in this build.
type Events struct{}

// New returns a Reader without a driver.
func New(o Options) *Reader {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reader{now: o.Now}
}

// Open says why there is none.
func (*Reader) Open() gpu.Driver {
	return gpu.Driver{Code: gpu.LibraryNotFound, Problem: "this gpu-probe was built without cgo, and cannot load NVML"}
}

// Snapshot returns one without devices.
func (r *Reader) Snapshot() *gpu.Snapshot {
	return &gpu.Snapshot{Format: gpu.FormatVersion, At: r.now().UTC(), Source: gpu.SourceNVML, Driver: r.Open(), Devices: []gpu.Device{}}
}

// Pending returns nil.
func (*Reader) Pending() *Call { return nil }

// Listen returns nil.
func (*Reader) Listen() *Events { return nil }

// Close does nothing.
func (*Reader) Close() {}

// Wait returns nil.
func (*Events) Wait(time.Duration) *gpu.Event { return nil }

// Join does nothing.
func (*Events) Join() {}

// Close does nothing.
func (*Events) Close() {}
