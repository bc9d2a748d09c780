package gpu

import (
	"slices"
	"time"
)

const (
	// foreignLeast is below which a process of somebody else's bars nobody: a
	// monitor that keeps a context open.
	foreignLeast = 200 << 20
	// unexplainedLeast and unexplainedPart are how much memory may be in use that
	// no process explains; the larger counts. Drivers that count their own share
	// as used get reserveAllowance besides.
	unexplainedLeast = 500 << 20
	unexplainedPart  = 0.02
	reserveAllowance = 1 << 30
	// unexplainedLooks is how often in a row it must be so: a process that ends
	// is gone from the list before its memory is.
	unexplainedLooks = 2
	// liarLooks is after how many lists in a row with processes that do not exist
	// a device's list is not believed any more.
	liarLooks = 2
	// quiet is for how long a device must be clean after foreign use.
	quiet = 30 * time.Second
)

// harmless are programs that are on a GPU for the machine's sake.
var harmless = []string{"nvidia-persiste", "nvidia-persistenced", "Xorg", "Xwayland", "gnome-shell", "kwin_x11", "kwin_wayland"}

// Occupant is a process on a device that holds no lease for it.
type Occupant struct {
	PID   int    `json:"pid"`
	UID   int    `json:"uid"` // -1 = not known
	Comm  string `json:"comm,omitempty"`
	Bytes *int64 `json:"bytes,omitempty"`
	Owner Owner  `json:"owner"`
}

// Sighting is what was seen of foreign use on a device, over several looks.
type Sighting struct {
	Occupants   []Occupant `json:"occupants,omitempty"`
	Unexplained int64      `json:"unexplained,omitempty"`
	Since       time.Time  `json:"since,omitzero"` // of the use that lasts, or was last
	Last        time.Time  `json:"last,omitzero"`  // when somebody was last seen who may come back
	Looks       int        `json:"looks,omitempty"`
	Lies        int        `json:"lies,omitempty"`
}

// barred says whether the device is not to be given out because of what was
// seen: there is foreign use, or there was a moment ago.
func (s Sighting) barred(now time.Time) bool {
	return s.current() || !s.Last.IsZero() && now.Sub(s.Last) < quiet
}

// current says that the last look saw foreign use.
func (s Sighting) current() bool {
	return len(s.Occupants) > 0 || s.Looks >= unexplainedLooks
}

// look is the Sighting after one more sample of a device with these holders.
func (s Sighting) look(d *Device, holders []string, a Attribution, at time.Time) Sighting {
	next := s
	next.Occupants, next.Unexplained = nil, 0
	list := d.Sample.Processes
	if next.Lies = s.Lies + 1; !slices.ContainsFunc(list, func(p Process) bool { return p.Gone }) {
		next.Lies = 0
	}
	if next.Lies >= liarLooks {
		list = nil
	}
	for _, p := range list {
		if o, foreign := occupant(p, holders, a); foreign {
			next.Occupants = append(next.Occupants, o)
		}
	}
	if n := unexplained(d, list); n > 0 && len(holders) == 0 && len(next.Occupants) == 0 {
		next.Unexplained, next.Looks = n, s.Looks+1
	} else {
		next.Looks = 0
	}
	if next.current() && !s.barred(at) {
		next.Since = at
	}
	if next.strange() {
		next.Last = at
	}
	return next
}

// strange says that not all of the foreign use is our own tasks': when these are
// gone, they do not come back.
func (s Sighting) strange() bool {
	return s.Looks >= unexplainedLooks || slices.ContainsFunc(s.Occupants, func(o Occupant) bool { return o.Owner.Kind != OwnerTask })
}

// occupant says whether a process uses a device without a right to it.
func occupant(p Process, holders []string, a Attribution) (Occupant, bool) {
	o := Occupant{PID: p.PID, UID: p.UID, Comm: p.Comm, Bytes: p.UsedBytes, Owner: a.Owner(p)}
	switch {
	case p.Gone:
		return o, false
	case o.Owner.Kind == OwnerTask:
		return o, !slices.Contains(holders, o.Owner.Name)
	case slices.Contains(harmless, p.Comm):
		return o, false
	default:
		return o, p.UsedBytes == nil || *p.UsedBytes >= foreignLeast
	}
}

// unexplained is the memory in use that no listed process explains, if it is
// more than is usual.
func unexplained(d *Device, list []Process) int64 {
	if d.Sample.UsedBytes == nil {
		return 0
	}
	rest := *d.Sample.UsedBytes
	for _, p := range list {
		if p.UsedBytes == nil {
			return 0 // it may explain all of it
		}
		rest -= *p.UsedBytes
	}
	if rest < allowance(d) {
		return 0
	}
	return rest
}

// allowance is how much memory may be in use on an idle device.
func allowance(d *Device) int64 {
	n := max(unexplainedLeast, int64(unexplainedPart*float64(d.TotalBytes)))
	if d.Sample.UsedIncludesReserve {
		n += reserveAllowance
	}
	return n
}
