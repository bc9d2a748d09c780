package gpu

import "time"

// Event is what the driver told of a device, unasked.
type Event struct {
	At     time.Time `json:"at"`
	Device DeviceID  `json:"device,omitempty"` // the whole GPU; "" = the driver did not say which
	Kind   EventKind `json:"kind"`
	// XID is the number of the driver's error report, of an EventXID.
	XID int `json:"xid,omitempty"`
	GI  int `json:"gi"` // MIG, -1 = the GPU
	CI  int `json:"ci"`
	// Code, of an EventLost.
	Code Code `json:"code,omitempty"`
}

// EventKind is what happened.
type EventKind string

// The kinds.
const (
	EventXID      EventKind = "xid"        // an error, with its number
	EventECC      EventKind = "ecc"        // memory lost a value
	EventMIG      EventKind = "mig_layout" // instances came or went
	EventRecovery EventKind = "recovery"   // what must be done to the GPU has changed
	EventLost     EventKind = "lost"       // waiting for events failed with Code
)
