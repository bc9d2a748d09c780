package services

import (
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// shortestDoubt is how often a service is asked at most.
const shortestDoubt = 200 * time.Millisecond

// Policy returns how patient env-manager is: a start has the configured time, and its
// questions are spread evenly over that.
func Policy(c config.Config) envmgr.Policy {
	p := envmgr.Defaults()
	e := c.EnvManager
	p.StartTimeout = e.HealthTimeout
	// One that takes hours is found ready in seconds all the same.
	p.Doubt = min(max(e.HealthTimeout/time.Duration(e.HealthAttempts), shortestDoubt), p.Steady)
	return p
}
