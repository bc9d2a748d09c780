package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Verdict is whether a device can be given out now, and if not, why.
type Verdict struct {
	Device *Device // of the snapshot; nil: it is only remembered
	ID     DeviceID
	Model  string
	Kind   Kind
	State  State
	// Because is the reason in a few words, without the device's name: "XID 79: it
	// fell off the bus". "" where State says it all.
	Because string
	Since   time.Time
	Holders []string // of leases
	// Room is how much memory one more share may have; 0 if none.
	Room int64
	// Occupants use it without a lease. On a device that is leased, they contend
	// with its holder.
	Occupants []Occupant
	// NoPeers: it may be given out, but not together with others.
	NoPeers string
}

// State is what a device is to somebody who wants it.
type State string

// The states, from best to worst.
const (
	Free       State = "free"
	Shared     State = "shared" // there may be room
	Held       State = "held"
	CoolingOff State = "cooling"
	Foreign    State = "in use" // by somebody without a lease
	Prohibited State = "prohibited"
	Unread     State = "unread" // a needed call failed just now
	Drained    State = "drained"
	Doubted    State = "suspect"
	Ill        State = "unhealthy"
	Away       State = "lost"
	Cut        State = "mig" // it is given out as its instances
)

// Give is the verdict once the device is given to somebody, for a request.
func (v *Verdict) Give(holder string, r Request) {
	v.Holders = append(slices.Clip(v.Holders), holder)
	if r.form() == formShare {
		v.State, v.Room = Shared, v.Room-r.Bytes
		return
	}
	v.State, v.Room = Held, 0
}

// Contended says that somebody uses what is another's.
func (v *Verdict) Contended() bool { return len(v.Holders) > 0 && len(v.Occupants) > 0 }

// Judge says of each device whether it can be given out: those of the snapshot in
// its order, then those that are only remembered. It is asked with the leases of
// this moment, which may be newer than what the book has seen.
func Judge(b Book, s *Snapshot, leases []Lease, now time.Time) []Verdict {
	given := byDevice(leases)
	out := make([]Verdict, 0, len(s.Devices)+len(b.Devices))
	listed := make(map[DeviceID]bool, len(s.Devices))
	for i := range s.Devices {
		d := &s.Devices[i]
		listed[d.ID] = true
		out = append(out, b.judge(d, given[d.ID], now))
	}
	for id, r := range b.Devices {
		if !listed[id] {
			v := Verdict{ID: id, Model: r.Model, Kind: r.Kind, State: Away, Because: r.Health.Reason, Since: r.Health.Since, Holders: given[id].holders}
			if v.Because == "" {
				v.Because = "nothing is known of it yet"
			}
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out[len(s.Devices):], func(a, b Verdict) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// judge asks one thing after another; the first that stands in the way counts.
func (b Book) judge(d *Device, g held, now time.Time) Verdict {
	r := b.Devices[d.ID]
	v := Verdict{
		Device: d, ID: d.ID, Model: d.Model, Kind: d.Kind, State: Free,
		Holders: g.holders, Occupants: r.Sighting.Occupants, NoPeers: r.Health.NoPeers,
	}
	no := func(s State, because string, since time.Time) Verdict {
		v.State, v.Because, v.Since = s, because, since
		return v
	}
	sick := b.sickest(d)
	switch s := r.Sighting; {
	case d.Kind == MIGParent:
		return no(Cut, "it is cut into MIG instances", time.Time{})
	case r.Seen.IsZero():
		return no(Unread, "nothing is known of it yet", time.Time{})
	case rank(sick.State) >= rank(LostState):
		return no(Away, sick.Reason, sick.Since)
	case sick.State == Unhealthy:
		return no(Ill, sick.Reason, sick.Since)
	case g.whole:
		return no(Held, "", time.Time{})
	case b.drain(d) != nil:
		return no(Drained, b.drain(d).Reason, b.drain(d).At)
	case sick.State == Suspect:
		return no(Doubted, sick.Reason, sick.Since)
	case refused(&d.Sample) != nil:
		f := refused(&d.Sample)
		return no(Unread, fmt.Sprintf("%s answers %s", f.What, f.Code), time.Time{})
	case d.Sample.FreeBytes == nil:
		return no(Unread, "the driver does not say how much memory is free", time.Time{})
	case d.Sample.ComputeMode == ComputeProhibited:
		return no(Prohibited, "its compute mode lets no program compute", time.Time{})
	case s.barred(now):
		return no(Foreign, s.because(), s.Since)
	case len(g.holders) == 0 && r.cooling(g) != "":
		return no(CoolingOff, "the memory of task "+r.cooling(g)+" is not seen to be free yet", time.Time{})
	case len(g.holders) > 0:
		v.State = Shared
	}
	if d.Kind == Whole && d.Sample.ComputeMode != ComputeExclusive {
		v.Room = r.room(d, g)
	}
	return v
}

// sickest is the health of a device, or of the GPU that it is part of, whichever
// is worse.
func (b Book) sickest(d *Device) Health {
	own, parent := b.Devices[d.ID].Health, b.Devices[d.Parent].Health
	if d.Parent != "" && rank(parent.State) > rank(own.State) {
		return parent
	}
	return own
}

func (b Book) drain(d *Device) *Drain {
	if own := b.Devices[d.ID].Drain; own != nil || d.Parent == "" {
		return own
	}
	return b.Devices[d.Parent].Drain
}

// cooling is the task whose memory may still be there, or "": one that the book
// knows to cool, or that held a lease when the book was last written.
func (r Record) cooling(g held) string {
	switch {
	case r.Cooling != nil:
		return r.Cooling.Task
	case len(r.Holders) > 0 && len(g.holders) == 0:
		return r.Holders[len(r.Holders)-1]
	}
	return ""
}

// because says who is on the device.
func (s Sighting) because() string {
	switch {
	case len(s.Occupants) > 0:
		return Occupants(s.Occupants)
	case s.Looks >= unexplainedLooks:
		return Size(s.Unexplained) + " in use by no visible process"
	default:
		return "it was in use a moment ago"
	}
}

// room is how much memory one more sharer may have: what was not promised, and
// of what is free, what the others may still take.
func (r Record) room(d *Device, g held) int64 {
	var ours int64
	for _, p := range d.Sample.Processes {
		if p.UsedBytes != nil {
			ours += *p.UsedBytes
		}
	}
	ours = min(ours, g.promised) // a sharer over its share takes nothing from the rest of the sum
	return max(0, min(d.TotalBytes-g.promised, *d.Sample.FreeBytes-(g.promised-ours)))
}
