package envmgr

import (
	"hash/fnv"
	"math"
	"time"
)

// Policy is how patient a Supervisor is. Defaults has what holds unless it is told
// otherwise.
type Policy struct {
	StartTimeout, StopTimeout time.Duration
	// FirstDelay is how long after its second end in a row a service is started again;
	// each further one doubles that up to LastDelay. The first time it is at once.
	FirstDelay, LastDelay time.Duration
	// Healthy is how long a service has answered when its former ends are forgotten.
	Healthy time.Duration
	// MostEnds within EndWindow, and it is not started again; 0 = always.
	MostEnds  int
	EndWindow time.Duration
	// MostSilent is how many probes in a row may fail before a service that had answered
	// is restarted; 0 = it is not.
	MostSilent int
	// Probes of a service that answers come each Steady, of one that did not each Doubt.
	Steady, Doubt time.Duration
	// ProbeTimeout is how long one that asks at a port may take; others have longer times.
	ProbeTimeout time.Duration
}

const defaultStartTimeout = time.Minute

// Defaults is the policy unless another is given.
func Defaults() Policy {
	return Policy{
		StartTimeout: defaultStartTimeout, StopTimeout: 10 * time.Second,
		FirstDelay: 500 * time.Millisecond, LastDelay: 30 * time.Second, Healthy: time.Minute,
		MostEnds: 8, EndWindow: 10 * time.Minute,
		MostSilent: 3, Steady: 5 * time.Second, Doubt: time.Second, ProbeTimeout: 3 * time.Second,
	}
}

// Pauses between two attempts at something that failed, which depend on what it was.
const (
	pullFirst, pullLast   = 2 * time.Second, 2 * time.Minute
	blockFirst, blockLast = time.Second, 15 * time.Second
	failFirst, failLast   = 500 * time.Millisecond, 30 * time.Second
	diskPause             = 30 * time.Second
	awayPause             = time.Second
	// brokenPause is for what nobody but a person mends, and which is to be done all the same.
	brokenPause = time.Minute
)

// delay is how long after its nth end in a row a service is started again. It is
// spread by a fifth either way, so that many that ended together do not all begin
// together; by its name, so that the same things lead to the same decision.
func (p Policy) delay(name string, n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return spread(doubled(p.FirstDelay, p.LastDelay, n-2), name, n)
}

func doubled(first, last time.Duration, times int) time.Duration {
	if times > 30 {
		return last
	}
	return min(first<<times, last)
}

func spread(d time.Duration, name string, n int) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte{byte(n), byte(n >> 8)}) // it returns no error
	_, _ = h.Write([]byte(name))
	part := float64(h.Sum32())/math.MaxUint32*0.4 - 0.2
	return d + time.Duration(part*float64(d))
}
