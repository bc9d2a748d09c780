package gpu

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Book is what is remembered of the devices from one snapshot to the next, and
// over restarts: it is written as JSON. It is a value: After returns the next
// one, and leaves this one as it was.
type Book struct {
	Boot    string              `json:"boot,omitempty"` // of the machine
	Devices map[DeviceID]Record `json:"devices,omitempty"`
}

// Record is what is remembered of one device.
type Record struct {
	Model    string    `json:"model,omitempty"`
	Kind     Kind      `json:"kind,omitempty"`
	Parent   DeviceID  `json:"parent,omitempty"`
	GI       int       `json:"gi"`
	CI       int       `json:"ci"`
	Seen     time.Time `json:"seen"` // last listed
	Health   Health    `json:"health"`
	Drain    *Drain    `json:"drain,omitempty"`
	Sighting Sighting  `json:"sighting,omitzero"`
	Holders  []string  `json:"holders,omitempty"` // of the leases at the last look
	Cooling  *Cooling  `json:"cooling,omitempty"`
}

// Drain is a person's wish that nothing is placed on a device.
type Drain struct {
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"`
}

// Cooling is a device whose task has ended, and whose memory is not seen to be
// free yet.
type Cooling struct {
	Task  string    `json:"task"`
	Since time.Time `json:"since"`
}

// Coolest is how long a device may take to free its memory.
const Coolest = 60 * time.Second

// Observation is what is new since the last entry of a Book.
type Observation struct {
	Now         time.Time
	Boot        string
	Snapshot    *Snapshot
	Events      []Event
	Leases      []Lease
	Attribution Attribution
}

// After is the Book with one more observation in it.
func (b Book) After(o Observation) Book {
	next := Book{Boot: o.Boot, Devices: maps.Clone(b.Devices)}
	if next.Devices == nil {
		next.Devices = map[DeviceID]Record{}
	}
	reboot := b.Boot != "" && o.Boot != "" && b.Boot != o.Boot
	given := byDevice(o.Leases)
	for _, id := range slices.Sorted(maps.Keys(next.Devices)) {
		r := next.Devices[id]
		if reboot {
			r.Health, r.Cooling, r.Sighting = r.Health.afterReset(o.Now), nil, Sighting{}
			r.Health.Energy = nil
		}
		next.Devices[id] = r.released(given[id].holders, o.Now)
	}
	for _, e := range o.Events {
		next.event(e, given)
	}
	next.look(o, given)
	return next
}

// released notes that the last who held a device has left it.
func (r Record) released(holders []string, now time.Time) Record {
	if len(r.Holders) > 0 && len(holders) == 0 {
		r.Cooling = &Cooling{Task: r.Holders[len(r.Holders)-1], Since: now}
	}
	if len(holders) > 0 {
		r.Cooling = nil
	}
	r.Holders = holders
	return r
}

// event tells the devices that it is about.
func (b Book) event(e Event, given map[DeviceID]held) {
	if _, known := b.Devices[e.Device]; !known && e.Device != "" {
		b.Devices[e.Device] = Record{Kind: Whole, GI: -1, CI: -1} // heard of before it was seen
	}
	for id, r := range b.Devices {
		switch {
		case r.meant(id, e):
			r.Health = r.Health.event(e, given[id].holders)
		case e.Device == "" && e.Kind == EventXID && faults[e.XID] == faultGone:
			r.Health = r.Health.suspect("a GPU is lost, and the driver does not say which", e.XID, e.At)
		default: // of no device, the next sample tells whose it was
			continue
		}
		b.Devices[id] = r
	}
}

// meant says whether an event is about a device. What hits one program is the
// instance's where it ran, if the driver names it; all else is the GPU's, whose
// health its instances share.
func (r Record) meant(id DeviceID, e Event) bool {
	f := faults[e.XID]
	instances := e.Kind == EventXID && e.GI >= 0 && (f == faultProgram || f == faultContained)
	if !instances {
		return id == e.Device
	}
	if r.Kind == MIG {
		return r.Parent == e.Device && r.GI == e.GI && (e.CI < 0 || r.CI == e.CI)
	}
	return id == e.Device && r.Kind == Whole
}

// look takes a snapshot's devices in, and notes which are not in it.
func (b Book) look(o Observation, given map[DeviceID]held) {
	if o.Snapshot == nil || o.Snapshot.Driver.Code != Success {
		return // nothing was seen, which says nothing of any device
	}
	listed := map[DeviceID]bool{}
	for i := range o.Snapshot.Devices {
		d := &o.Snapshot.Devices[i]
		listed[d.ID] = true
		b.Devices[d.ID] = b.Devices[d.ID].look(d, o, given[d.ID].holders)
	}
	for id, r := range b.Devices {
		switch {
		case listed[id]:
		case r.Kind == MIG && len(r.Holders) == 0:
			delete(b.Devices, id) // somebody cut the GPU anew: it is not to come back
		default:
			r.Health = r.Health.gone(o.Now)
			b.Devices[id] = r
		}
	}
}

// look is the record of a device after one more sample of it.
func (r Record) look(d *Device, o Observation, holders []string) Record {
	r.Model, r.Kind, r.Parent, r.GI, r.CI, r.Seen = d.Model, d.Kind, d.Parent, d.GI, d.CI, o.Now
	r.Holders = holders
	if r.Health.State == "" {
		r.Health.State = Well
	}
	at := o.Snapshot.At
	r.Health = r.Health.look(d, len(holders) == 0, o.Now)
	if d.Kind != MIGParent {
		before := holders
		if r.Cooling != nil {
			before = []string{r.Cooling.Task} // what it leaves is no stranger's
		}
		r.Sighting = r.Sighting.look(d, before, o.Attribution, at)
	}
	return r.cool(d, o, at)
}

// cool ends the cooling of a device that was seen free, and gives up on one that
// does not get there.
func (r Record) cool(d *Device, o Observation, at time.Time) Record {
	c := r.Cooling
	switch {
	case c == nil:
	case at.After(c.Since) && isFree(d, c.Task, o.Attribution):
		r.Cooling = nil
	case o.Now.Sub(c.Since) >= Coolest:
		r.Health = r.Health.suspect(fmt.Sprintf("memory not released by task %s", c.Task), 0, o.Now)
		r.Cooling = nil
	}
	return r
}

// isFree says that a task has left nothing on a device. Somebody else's process
// is not its fault.
func isFree(d *Device, task string, a Attribution) bool {
	for _, p := range d.Sample.Processes {
		if o := a.Owner(p); o.Kind == OwnerTask && o.Name == task {
			return false
		}
	}
	return unexplained(d, d.Sample.Processes) == 0
}

// Had is the Book with a device that a task is known to have held last: it cools
// unless a lease says that the task still has it.
func (b Book) Had(id DeviceID, holder string) Book {
	return b.change(id, func(r *Record) {
		if !slices.Contains(r.Holders, holder) {
			r.Holders = append(slices.Clip(r.Holders), holder)
		}
	})
}

// Drained is the Book with a device drained.
func (b Book) Drained(id DeviceID, d Drain) Book {
	return b.change(id, func(r *Record) { r.Drain = &d })
}

// Resumed is the Book with a device given back: the drain ends, and a person has
// said that it is well.
func (b Book) Resumed(id DeviceID, now time.Time) Book {
	return b.change(id, func(r *Record) { r.Drain, r.Health = nil, r.Health.Resume(now) })
}

func (b Book) change(id DeviceID, f func(*Record)) Book {
	next := Book{Boot: b.Boot, Devices: maps.Clone(b.Devices)}
	if next.Devices == nil {
		next.Devices = map[DeviceID]Record{}
	}
	r := next.Devices[id]
	f(&r)
	next.Devices[id] = r
	return next
}

// Fixed is the Book without what every look changes.
func (b Book) Fixed() Book {
	out := Book{Boot: b.Boot, Devices: make(map[DeviceID]Record, len(b.Devices))}
	for id, r := range b.Devices {
		r.Seen, r.Health.Energy, r.Sighting.Last = time.Time{}, nil, time.Time{}
		out.Devices[id] = r
	}
	return out
}

// Health is how a device is.
func (b Book) Health(id DeviceID) Health { return b.Devices[id].Health }
