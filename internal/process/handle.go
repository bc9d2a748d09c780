package process

import (
	"encoding/json"
	"fmt"
)

// handle is what task.Status.Handle holds: enough to say, on any host and after
// any restart, whether the process can still be there.
type handle struct {
	Version    int    `json:"v"`
	Host       string `json:"host"`
	Boot       string `json:"boot"`
	Supervisor string `json:"supervisor"`
	PID        int32  `json:"pid,omitempty"`
	Start      uint64 `json:"start,omitempty"` // ticks since boot
}

const handleVersion = 1

func (h handle) encode() []byte {
	h.Version = handleVersion
	b, err := json.Marshal(h)
	if err != nil {
		panic(fmt.Sprintf("marshal handle: %v", err)) // plain fields cannot fail
	}
	return b
}

// decodeHandle reads a handle; false if it is none of ours.
func decodeHandle(b []byte) (handle, bool) {
	var h handle
	if json.Unmarshal(b, &h) != nil || h.Version < 1 {
		return handle{}, false
	}
	return h, true
}
