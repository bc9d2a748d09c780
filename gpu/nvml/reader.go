//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"fmt"
	"slices"
	"sync"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// Reader reads the driver. One goroutine uses it; Pending alone may be called
// from any.
type Reader struct {
	path    string
	opened  bool
	lib     nv.Interface
	driver  gpu.Driver
	now     func() time.Time
	observe func(call string, took time.Duration, code gpu.Code)
	seq     uint64
	known   []*device // the GPUs that were ever seen, in the driver's order
	links   []gpu.Link

	mu      sync.Mutex
	pending []*Call // in the order in which they began
}

// New returns a Reader. It calls nothing yet: even the driver's start may hang.
func New(o Options) *Reader {
	r := &Reader{path: o.Library, now: o.Now, observe: o.Observe}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Open maps the library and starts it, if that was not done, and returns what is
// known of the driver. A Reader without one has snapshots that say why there is
// none.
func (r *Reader) Open() gpu.Driver {
	if !r.opened {
		r.opened = true
		r.start()
	}
	return r.driver
}

func (r *Reader) start() {
	begun := r.begin("nvmlInit", "")
	r.lib, r.driver = library(r.path)
	r.end(begun, r.driver.Code)
	if r.driver.Code != gpu.Success {
		if r.driver.Problem == "" {
			r.driver.Problem = trouble(r.driver.Code)
		}
		return
	}
	r.call("nvmlSystemGetDriverVersion", "", func() (ret nv.Return) {
		r.driver.Version, ret = r.lib.SystemGetDriverVersion()
		return ret
	})
	r.call("nvmlSystemGetNVMLVersion", "", func() (ret nv.Return) {
		r.driver.NVML, ret = r.lib.SystemGetNVMLVersion()
		return ret
	})
	r.call("nvmlSystemGetCudaDriverVersion_v2", "", func() nv.Return {
		v, ret := r.lib.SystemGetCudaDriverVersion_v2()
		if ret == nv.SUCCESS {
			r.driver.CUDA = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
		}
		return ret
	})
}

// trouble says what a failed start means, and what helps.
func trouble(code gpu.Code) string {
	switch code {
	case gpu.DriverNotLoaded:
		return "the kernel module nvidia is not loaded"
	case gpu.LibRMVersionDiffer:
		return "the driver was upgraded under the running kernel module: reboot, or reload the module nvidia"
	case gpu.NoPermission:
		return "no permission for /dev/nvidiactl"
	default:
		return "NVML does not start: " + code.String()
	}
}

// Close ends the library's use.
func (r *Reader) Close() {
	if r.lib != nil && r.driver.Code == gpu.Success {
		r.call("nvmlShutdown", "", r.lib.Shutdown)
	}
}

// Pending returns the oldest call that has not come back yet, or nil. Waiting for
// events is none.
func (r *Reader) Pending() *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == 0 {
		return nil
	}
	return r.pending[0]
}

// Snapshot reads all devices.
func (r *Reader) Snapshot() *gpu.Snapshot {
	r.Open()
	r.seq++
	s := &gpu.Snapshot{
		Format: gpu.FormatVersion, Seq: r.seq, At: r.now().UTC(),
		Source: gpu.SourceNVML, Driver: r.driver, Devices: []gpu.Device{},
	}
	if r.driver.Code != gpu.Success {
		return s
	}
	changed := r.inventory(s)
	for _, d := range r.known {
		s.Devices = append(s.Devices, r.read(d)...)
	}
	rank(s.Devices)
	if changed {
		r.links = r.topology()
	}
	s.Links = slices.Clone(r.links)
	return s
}

// inventory asks which GPUs there are, and says whether that changed. A GPU that
// was seen once stays: its handle tells what became of it.
func (r *Reader) inventory(s *gpu.Snapshot) (changed bool) {
	var count int
	code := r.call("nvmlDeviceGetCount", "", func() (ret nv.Return) {
		count, ret = r.lib.DeviceGetCount()
		return ret
	})
	if code != gpu.Success {
		s.Driver.Code, s.Driver.Problem = code, "the driver does not count its GPUs: "+code.String()
		return false
	}
	for i := range count {
		if slices.ContainsFunc(r.known, func(d *device) bool { return d.facts.Index == i }) {
			continue
		}
		var h nv.Device
		code := r.call("nvmlDeviceGetHandleByIndex", "", func() (ret nv.Return) {
			h, ret = r.lib.DeviceGetHandleByIndex(i)
			return ret
		})
		if code == gpu.Success {
			var d *device
			if d, code = r.identify(h, i); code == gpu.Success {
				r.known, changed = append(r.known, d), true
				continue
			}
		}
		s.Unreadable = append(s.Unreadable, gpu.Unreadable{Index: i, Code: code})
	}
	return changed
}

// call is every call of the driver: it can be watched from outside while it
// lasts, and is measured. device may be "".
func (r *Reader) call(name string, device gpu.DeviceID, f func() nv.Return) (code gpu.Code) {
	begun := r.begin(name, device)
	defer func() {
		// go-nvml indexes what a driver that breaks the protocol left empty.
		if recover() != nil {
			code = gpu.Unknown
		}
		r.end(begun, code)
	}()
	return gpu.Code(f())
}

func (r *Reader) begin(name string, device gpu.DeviceID) *Call {
	c := &Call{Name: name, Device: device, Since: time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, c)
	return c
}

func (r *Reader) end(c *Call, code gpu.Code) {
	r.mu.Lock()
	r.pending = slices.DeleteFunc(r.pending, func(p *Call) bool { return p == c })
	r.mu.Unlock()
	if r.observe != nil {
		r.observe(c.Name, time.Since(c.Since), code)
	}
}
