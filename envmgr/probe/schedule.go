package probe

import (
	"math"
	"time"
)

// Pauses between probes. A service that starts is asked often, since whoever waits for
// it waits for the probe as well; less often when it takes long, since each probe costs
// the service something too.
const (
	firstPause  = 20 * time.Millisecond
	maxPause    = 250 * time.Millisecond
	pauseGrowth = 1.3

	steadyPause = 5 * time.Second
	jitter      = 0.1
)

// Startup is the pauses between the probes of a service that starts. The zero value is
// at its beginning; the first probe is made without one.
type Startup struct{ last time.Duration }

// Next returns how long to wait before the next probe.
func (s *Startup) Next() time.Duration {
	next := time.Duration(math.Round(float64(s.last) * pauseGrowth))
	s.last = min(max(next, firstPause), maxPause)
	return s.last
}

// Steady is the pauses between the probes of a service that is ready. They differ a
// little, so that many services are not asked all at once.
type Steady struct {
	// Every is their middle; five seconds unless given.
	Every time.Duration
	// Rand returns numbers of [0, 1). Without it all pauses are the same.
	Rand func() float64
}

// Next returns how long to wait before the next probe.
func (s Steady) Next() time.Duration {
	every := s.Every
	if every <= 0 {
		every = steadyPause
	}
	if s.Rand == nil {
		return every
	}
	return time.Duration(math.Round(float64(every) * (1 - jitter + 2*jitter*s.Rand())))
}
