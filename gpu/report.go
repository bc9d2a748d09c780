package gpu

import "time"

// Report is one line of gpu-probe's standard output. Exactly one of the
// pointers is set.
type Report struct {
	Hello    *Hello    `json:"hello,omitempty"`
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	Event    *Event    `json:"event,omitempty"`
	Busy     *Busy     `json:"busy,omitempty"`
}

// Hello is the first line: who speaks.
type Hello struct {
	Format  int    `json:"format"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// Busy says, once a second, that a call of the driver has not come back. Whether
// it has had long enough is for the reader to judge: the probe cannot end it.
type Busy struct {
	At     time.Time `json:"at"`
	Call   string    `json:"call"` // the function of NVML
	Device DeviceID  `json:"device,omitempty"`
	// For is how long it has taken so far.
	ForMillis int64 `json:"for_ms"`
}
