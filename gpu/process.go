package gpu

// Process is a program that has a context on a device.
type Process struct {
	PID int `json:"pid"`
	// StartTicks tells it from another process that got the same number later;
	// 0 = not known. It is what /proc/PID/stat says.
	StartTicks uint64 `json:"start_ticks,omitempty"`
	// UsedBytes of the device's memory; nil: the driver did not say.
	UsedBytes *int64 `json:"used_bytes,omitempty"`
	GI        int    `json:"gi"` // MIG, -1 = none
	CI        int    `json:"ci"`
	UID       int    `json:"uid"`            // -1 = not known
	Comm      string `json:"comm,omitempty"` // the program's name
	Cgroup    string `json:"cgroup,omitempty"`
	// Gone: the driver lists it, and there is no such process. That is a list not
	// to be trusted, or a pid of another namespace.
	Gone bool `json:"gone,omitempty"`
}
