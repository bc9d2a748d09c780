package gpupool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Device is a device as people are shown it.
type Device struct {
	gpu.Verdict
	Health gpu.Health
	Drain  *gpu.Drain
	Owners []gpu.Owner // of Verdict.Device's processes, in their order
}

// List is all devices.
type List struct {
	Devices []Device
	Down    string // why nothing is placed on any
	Off     bool   // and nothing ever is
	Driver  string
	Age     time.Duration // of the last look; below 0: there was none
}

// List tells of all devices.
func (p *Pool) List() List {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := List{Down: p.o.Off, Off: p.o.Off != "", Age: -1}
	if out.Off {
		return out
	}
	out.Down = p.o.Eyes.Down()
	s := p.seen
	if s == nil {
		s = &gpu.Snapshot{}
	} else {
		out.Age, out.Driver = time.Since(p.received), s.Driver.Version
	}
	owners := p.attribution()
	for _, v := range withOthers(gpu.Judge(p.book, s, p.leases, p.o.Now()), p.others) {
		d := Device{Verdict: v, Health: p.book.Health(v.ID), Drain: p.book.Devices[v.ID].Drain}
		if v.Device != nil {
			for _, proc := range v.Device.Sample.Processes {
				d.Owners = append(d.Owners, owners.Owner(proc))
			}
		}
		out.Devices = append(out.Devices, d)
	}
	return out
}

// Drain keeps tasks from a device until Resume. It is on disk when it is answered.
func (p *Pool) Drain(id, by, reason string) (Device, error) {
	return p.care(id, "drained", by, func(d gpu.DeviceID) gpu.Book {
		return p.book.Drained(d, gpu.Drain{Reason: reason, By: by, At: p.o.Now()})
	})
}

// Resume ends a drain, and is a person's word that the device is well.
func (p *Pool) Resume(id, by string) (Device, error) {
	return p.care(id, "resumed", by, func(d gpu.DeviceID) gpu.Book { return p.book.Resumed(d, p.o.Now()) })
}

func (p *Pool) care(id, what, by string, change func(gpu.DeviceID) gpu.Book) (Device, error) {
	known, err := p.find(id)
	if err != nil {
		return Device{}, err
	}
	if err := p.change(known, change); err != nil {
		return Device{}, task.Errorf(task.CodeUnavailable, "what is known of the GPUs cannot be written, so nothing was changed: %w", err)
	}
	p.o.Log.Info("a person has changed what is done with a GPU", "gpu", known, "what", what, "by", by)
	p.wake()
	list := p.List().Devices
	return list[slices.IndexFunc(list, func(d Device) bool { return d.ID == known })], nil
}

// change changes the book, or leaves it as it is if that cannot be written. Nobody places
// anything by it before it is known which.
func (p *Pool) change(id gpu.DeviceID, change func(gpu.DeviceID) gpu.Book) error {
	p.file.Lock()
	defer p.file.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.book
	p.book = change(id)
	fixed, all, err := p.due(true)
	if err == nil {
		err = p.write(fixed, all, true)
	}
	if err != nil {
		p.book = before
	}
	return err
}

// find resolves what people call a device: its UUID, the beginning of it, or its index.
func (p *Pool) find(id string) (gpu.DeviceID, error) {
	list := p.List()
	if list.Off {
		return "", task.Errorf(task.CodeUnsupported, "%s", list.Down)
	}
	var found, all []string
	index, err := strconv.Atoi(id)
	for _, d := range list.Devices {
		all = append(all, string(d.ID))
		byIndex := err == nil && d.Device != nil && d.Kind != gpu.MIG && d.Device.Index == index
		if id != "" && (byIndex || err != nil && strings.HasPrefix(strings.ToLower(string(d.ID)), strings.ToLower(id))) {
			found = append(found, string(d.ID))
		}
	}
	switch {
	case slices.Contains(found, id):
		return gpu.DeviceID(id), nil
	case len(found) == 1:
		return gpu.DeviceID(found[0]), nil
	case len(found) > 1:
		return "", task.Errorf(task.CodeInvalid, "%q is the beginning of %s; give more of it", id, strings.Join(found, ", "))
	case len(all) == 0:
		return "", task.Errorf(task.CodeNotFound, "there is no GPU %q: %s", id, orNone(list.Down))
	default:
		return "", task.Errorf(task.CodeNotFound, "there is no GPU %q; there are %s", id, strings.Join(all, ", "))
	}
}

func orNone(down string) string {
	if down == "" {
		return "this host has none"
	}
	return down
}

// Seen is closed with the first look at the devices.
func (p *Pool) Seen() <-chan struct{} { return p.first }

// Missing says why no task that needs a GPU can ever start here; "" = one may.
func (p *Pool) Missing() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s := p.seen; {
	case p.o.Off != "":
		return p.o.Off
	case s != nil && s.Driver.Code == gpu.LibraryNotFound:
		return "this host has no NVIDIA driver"
	}
	return ""
}

// Status is one line for health: "ok: 8 GPUs, 3 free".
func (p *Pool) Status() string {
	l := p.List()
	switch {
	case l.Off:
		return "off: " + l.Down
	case l.Down != "" && p.Missing() != "":
		return "none: " + l.Down
	case l.Down != "":
		return "down: " + l.Down
	}
	n, free, bad := 0, 0, []string{}
	for _, d := range l.Devices {
		switch {
		case d.State == gpu.Cut:
			continue
		case d.State == gpu.Free:
			free++
		case d.Health.State != gpu.Well && d.Health.State != "":
			bad = append(bad, fmt.Sprintf("%s is %s", d.ID, d.State))
		}
		n++
	}
	text := fmt.Sprintf("ok: %d devices, %d free", n, free)
	if len(bad) > 0 {
		text = fmt.Sprintf("degraded: %d devices, %d free; %s", n, free, strings.Join(bad, ", "))
	}
	return text
}
