//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"slices"
	"sync"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// kinds are the events worth hearing of, by NVML's bit. Errors of one bit are
// corrected, and many.
var kinds = map[uint64]gpu.EventKind{
	nv.EventTypeXidCriticalError:  gpu.EventXID,
	nv.EventTypeDoubleBitEccError: gpu.EventECC,
	nv.EventMigConfigChange:       gpu.EventMIG,
	nv.EventTypeGpuRecoveryAction: gpu.EventRecovery,
}

// Events waits for what the driver tells unasked. It has a thread of its own:
// waiting is a call too.
type Events struct {
	r   *Reader
	set nv.EventSet

	mu      sync.Mutex // Join runs beside Wait
	devices []*device  // that are registered
	closed  bool
}

// Listen registers for the events of all GPUs that the last Snapshot saw. nil:
// the driver tells of none. What happened before is not told.
func (r *Reader) Listen() *Events {
	if r.driver.Code != gpu.Success {
		return nil
	}
	e := &Events{r: r}
	code := r.call("nvmlEventSetCreate", "", func() (ret nv.Return) {
		e.set, ret = r.lib.EventSetCreate()
		return ret
	})
	if code != gpu.Success {
		return nil
	}
	if e.Join(); len(e.devices) == 0 {
		e.Close()
		return nil
	}
	return e
}

// Join registers for the GPUs that came since. It is called where Snapshot is.
func (e *Events) Join() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.r.known {
		mask := d.tells()
		if e.closed || mask == 0 || slices.Contains(e.devices, d) {
			continue
		}
		code := e.r.call("nvmlDeviceRegisterEvents", d.facts.ID, func() nv.Return { return d.handle.RegisterEvents(mask, e.set) })
		if code == gpu.Success {
			e.devices = append(e.devices, d)
		}
	}
}

// tells is which events are worth hearing of those that a GPU has.
func (d *device) tells() (mask uint64) {
	for bit := range kinds {
		mask |= bit & d.facts.Events
	}
	return mask
}

// Wait returns the next event, or nil when none came within the time. It may be
// called beside a Snapshot.
func (e *Events) Wait(limit time.Duration) *gpu.Event {
	data, ret := e.set.Wait(uint32(limit.Milliseconds()))
	now := e.r.now().UTC()
	switch code := gpu.Code(ret); {
	case ret == nv.ERROR_TIMEOUT:
		return nil
	case code != gpu.Success:
		return &gpu.Event{At: now, Kind: gpu.EventLost, GI: -1, CI: -1, Code: code}
	}
	out := &gpu.Event{At: now, Kind: kinds[data.EventType], GI: instance(data.GpuInstanceId), CI: instance(data.ComputeInstanceId)}
	if out.Kind == gpu.EventXID {
		out.XID = int(data.EventData)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.devices {
		if d.handle == data.Device {
			out.Device = d.facts.ID
		}
	}
	return out
}

// Close ends the waiting. It is not called beside Wait.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.r.call("nvmlEventSetFree", "", e.set.Free)
}
