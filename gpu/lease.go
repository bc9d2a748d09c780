package gpu

import "slices"

// Lease is what somebody was given: a task, from before its start until its
// workload is known to be gone.
type Lease struct {
	Holder  string // the task's id
	Devices []DeviceID
	Bytes   int64 // on each, for a share; 0 = all of them is the holder's
}

// Whole says that no one else may use the devices.
func (l Lease) Whole() bool { return l.Bytes == 0 }

// DefaultSharers is how many may share a GPU unless somebody chose otherwise.
const DefaultSharers = 4

// held is what is given away of one device.
type held struct {
	holders  []string
	whole    bool
	promised int64 // to sharers
}

// byDevice turns leases round.
func byDevice(leases []Lease) map[DeviceID]held {
	out := make(map[DeviceID]held, len(leases))
	for _, l := range leases {
		for _, id := range l.Devices {
			h := out[id]
			h.holders = append(slices.Clip(h.holders), l.Holder)
			h.whole = h.whole || l.Whole()
			h.promised += l.Bytes
			out[id] = h
		}
	}
	return out
}
