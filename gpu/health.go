package gpu

import (
	"fmt"
	"slices"
	"time"
)

// Health is whether a device is to be trusted with a task, and why not.
type Health struct {
	State  HealthState `json:"state"`
	Reason string      `json:"reason,omitempty"`
	XID    int         `json:"xid,omitempty"`
	Since  time.Time   `json:"since,omitzero"`
	// Sticky: only a reset of the device or a person ends it.
	Sticky bool `json:"sticky,omitempty"`
	// RecheckAt is when a suspect may be well again, if nothing happened since.
	RecheckAt time.Time `json:"recheck_at,omitzero"`
	// NoPeers: it works, and its way to other GPUs does not.
	NoPeers string `json:"no_peers,omitempty"`

	// What later looks are held against.
	ECC       *uint64     `json:"ecc,omitempty"`    // uncorrected errors so far
	Energy    *uint64     `json:"energy,omitempty"` // falls only when the driver or the device began anew
	Refusals  int         `json:"refusals,omitempty"`
	Suspected []time.Time `json:"suspected,omitempty"` // lately
	Hits      []Hit       `json:"hits,omitempty"`      // lately
}

// HealthState is a device's health, best first.
type HealthState string

// The states.
const (
	Well      HealthState = "ok"
	Suspect   HealthState = "suspect"   // given to nobody for a while
	Unhealthy HealthState = "unhealthy" // given to nobody until it is reset, or a person says so
	LostState HealthState = "lost"      // it answers nothing
	Missing   HealthState = "missing"   // the driver does not list it any more
)

// Hit is a fault of a program, on this device.
type Hit struct {
	Task string    `json:"task"`
	At   time.Time `json:"at"`
}

const (
	// recovery is how long a suspect must be quiet.
	recovery = 10 * time.Minute
	// relapse: a second suspicion within it is one too many.
	relapse = 24 * time.Hour
	// manyTasks that meet "their own" faults on one device within hitsWithin are
	// rather the device's.
	manyTasks  = 3
	hitsWithin = time.Hour
	// manyRefusals in a row of a call that must work.
	manyRefusals = 3
)

// actions are the driver's words for what a device needs; 0 is nothing.
var actions = map[int]string{
	1: "a reset of the GPU", 2: "a reboot", 3: "draining its peers", 4: "draining and a reset of the GPU",
	5: "recovery of the IMEX domain", 6: "a reset of the bus", 7: "a reboot",
}

// worsen moves to a worse state; from one that is as bad or worse only the first
// reason counts.
func (h Health) worsen(to HealthState, reason string, xid int, now time.Time) Health {
	h.Sticky = h.Sticky || to == Unhealthy // also of one that is away: that does not heal it
	if rank(h.State) >= rank(to) {
		return h
	}
	h.State, h.Reason, h.XID, h.Since, h.RecheckAt = to, reason, xid, now, time.Time{}
	return h
}

func rank(s HealthState) int {
	return slices.Index([]HealthState{Well, Suspect, Unhealthy, LostState, Missing}, s)
}

// suspect is worsen to Suspect; a relapse is Unhealthy. More of the same only
// makes it last.
func (h Health) suspect(reason string, xid int, now time.Time) Health {
	if h.State == Suspect {
		h.RecheckAt = now.Add(recovery)
		return h
	}
	if rank(h.State) > rank(Suspect) {
		return h
	}
	h.Suspected = append(recent(h.Suspected, now), now)
	if len(h.Suspected) > 1 {
		return h.worsen(Unhealthy, "again within a day: "+reason, xid, now)
	}
	h = h.worsen(Suspect, reason, xid, now)
	h.RecheckAt = now.Add(recovery)
	return h
}

func recent(times []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return now.Sub(t) >= relapse })
}

// event is the Health after the driver told of something, while these tasks held
// the device.
func (h Health) event(e Event, holders []string) Health {
	switch e.Kind {
	case EventXID:
		return h.xid(e, holders)
	case EventECC:
		return h.worsen(Unhealthy, "memory lost a value", 0, e.At)
	default: // the next sample says what it means
		return h
	}
}

func (h Health) xid(e Event, holders []string) Health {
	reason := XIDText(e.XID)
	switch faults[e.XID] {
	case faultProgram:
		return h.hit(holders, reason, e)
	case faultLog, faultRecovery:
		return h
	case faultContained, faultUnknown:
		return h.suspect(reason, e.XID, e.At)
	case faultLink:
		h.NoPeers = reason
		return h.suspect(reason, e.XID, e.At)
	case faultReset:
		return h.worsen(Unhealthy, reason, e.XID, e.At)
	case faultGone:
		return h.worsen(LostState, reason, e.XID, e.At)
	}
	return h
}

// hit notes a fault that is the program's, unless too many programs have it.
func (h Health) hit(holders []string, reason string, e Event) Health {
	h.Hits = slices.DeleteFunc(slices.Clone(h.Hits), func(hit Hit) bool { return e.At.Sub(hit.At) >= hitsWithin })
	for _, task := range holders {
		if !slices.ContainsFunc(h.Hits, func(hit Hit) bool { return hit.Task == task }) {
			h.Hits = append(h.Hits, Hit{Task: task, At: e.At})
		}
	}
	if len(h.Hits) < manyTasks {
		return h
	}
	return h.suspect(fmt.Sprintf("%d tasks failed on it within an hour, last with %s", len(h.Hits), reason), e.XID, e.At)
}

// look is the Health after a sample. idle: nobody holds the device.
func (h Health) look(d *Device, idle bool, now time.Time) Health {
	m := &d.Sample
	if code := d.Lost(); code != Success {
		return h.worsen(LostState, "the driver says "+code.String(), 0, now)
	}
	h = h.anew(m, now)
	if h.State == Missing || h.State == LostState {
		h = h.back(now)
	}
	h = h.counters(m, now)
	h = h.refusals(m, now)
	if h.State == Suspect && idle && !now.Before(h.RecheckAt) {
		h.State, h.Reason, h.XID, h.Since, h.RecheckAt, h.Hits = Well, "", 0, now, time.Time{}, nil
	}
	return h
}

// back is the Health of a device that was away and answers again: for how long
// has to be seen, and what was wrong with it before still is.
func (h Health) back(now time.Time) Health {
	const reason = "it was gone, and came back"
	h.State = Well
	if h.Sticky {
		return h.worsen(Unhealthy, reason+" without a reset", h.XID, now)
	}
	return h.suspect(reason, 0, now)
}

// anew notices that the device, or the driver, began anew: that is the reset
// that a sticky state waits for.
func (h Health) anew(m *Sample, now time.Time) Health {
	fell := func(before, after *uint64) bool { return before != nil && after != nil && *after < *before }
	reset := fell(h.Energy, m.EnergyMilliJ) || fell(h.ECC, m.ECCUncorrected)
	if m.EnergyMilliJ != nil {
		h.Energy = m.EnergyMilliJ
	}
	if reset {
		h = h.afterReset(now)
	}
	return h
}

// afterReset is a device of which only the past is known.
func (h Health) afterReset(now time.Time) Health {
	h.ECC, h.NoPeers = nil, ""
	if h.State != Unhealthy && h.State != LostState {
		return h
	}
	h.State, h.Sticky = Suspect, false
	h.Reason, h.RecheckAt = "it was reset; before, "+h.Reason, now.Add(recovery)
	return h
}

// counters are what the device itself counts.
func (h Health) counters(m *Sample, now time.Time) Health {
	if n := m.ECCUncorrected; n != nil {
		if h.ECC != nil && *n > *h.ECC {
			h = h.worsen(Unhealthy, fmt.Sprintf("%d uncorrected memory errors, %d more than before", *n, *n-*h.ECC), 0, now)
		}
		h.ECC = n
	}
	if r := m.Remapped; r != nil {
		switch {
		case r.Failed:
			h = h.worsen(Unhealthy, "a row of memory could not be replaced: the board is to be exchanged", 0, now)
		case r.Pending:
			h = h.worsen(Unhealthy, "a row of memory is replaced at the next reset", 0, now)
		}
	}
	if a := m.RecoveryAction; a != nil && *a != 0 {
		text := actions[*a]
		if text == "" {
			text = fmt.Sprintf("recovery action %d", *a)
		}
		h = h.worsen(Unhealthy, "the driver asks for "+text, 0, now)
	}
	return h
}

// needed are the calls without which nobody knows whether a device is free.
var needed = []string{"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetMigMode"}

// refused returns the needed call that failed in a sample, or nil.
func refused(m *Sample) *Failure {
	i := slices.IndexFunc(m.Failed, func(f Failure) bool { return slices.Contains(needed, f.What) })
	if i < 0 {
		return nil
	}
	return &m.Failed[i]
}

// refusals counts how often in a row such a call failed.
func (h Health) refusals(m *Sample, now time.Time) Health {
	f := refused(m)
	if f == nil {
		h.Refusals = 0
		return h
	}
	if h.Refusals++; h.Refusals >= manyRefusals {
		h = h.suspect(fmt.Sprintf("%s answers %s", f.What, f.Code), 0, now)
	}
	return h
}

// gone is the Health of a device that the driver does not list. What is sticky
// stays: its verdict is that it is away, for as long as it is.
func (h Health) gone(now time.Time) Health {
	if h.Sticky {
		return h
	}
	return h.worsen(Missing, "the driver does not list it any more", 0, now)
}

// Resume is a person's word that the device is well.
func (h Health) Resume(now time.Time) Health {
	return Health{State: Well, Since: now, ECC: h.ECC, Energy: h.Energy}
}

// Gone says that the device does not answer any more.
func (h Health) Gone() bool { return rank(h.State) >= rank(LostState) }

// Failed says that what ran on the device may have failed with it.
func (h Health) Failed() bool { return rank(h.State) >= rank(Unhealthy) }
