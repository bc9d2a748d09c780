package nvml

import (
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// Call is a call of the driver that has begun.
type Call struct {
	Name   string
	Device gpu.DeviceID
	Since  time.Time
}

// Options say how to read.
type Options struct {
	Library string           // path; "" = where systems have it
	Now     func() time.Time // nil = time.Now
	// Observe is told how long each call took, if it is given.
	Observe func(call string, took time.Duration, code gpu.Code)
}
