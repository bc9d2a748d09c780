package api

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/envmgr"
)

// The words of the contract. Of a start: starting, healthy, unhealthy, stopped, failed;
// of a status: running, stopped, starting, unhealthy, failed.
const (
	wordStarting  = "starting"
	wordHealthy   = "healthy"
	wordUnhealthy = "unhealthy"
	wordStopped   = "stopped"
	wordFailed    = "failed"
	wordRunning   = "running"
)

// startWord is how a service stands, for whoever starts it.
func startWord(s envmgr.Status) string {
	switch {
	case s.Phase == envmgr.Ready, s.Phase == envmgr.Done:
		return wordHealthy
	case s.Hopeless, s.Phase == envmgr.Failed:
		return wordFailed
	case s.Late, s.Phase == envmgr.Degraded, s.Phase == envmgr.Blocked, s.Phase == envmgr.EngineAway:
		return wordUnhealthy
	case s.Phase == envmgr.Stopped, s.Phase == envmgr.Stopping:
		return wordStopped
	default:
		return wordStarting
	}
}

// statusWord is how it stands, for whoever asks.
func statusWord(s envmgr.Status) string {
	if word := startWord(s); word != wordHealthy {
		return word
	}
	return wordRunning
}

// message says how it stands, in a sentence.
func message(s envmgr.Status) string {
	switch {
	case s.Phase == envmgr.Pulling && s.Pull.Total > 0:
		return fmt.Sprintf("pulling %s: %d %% of %s", s.Image, s.Pull.Current*100/s.Pull.Total, humanize.IBytes(uint64(s.Pull.Total)))
	case s.Phase == envmgr.Pulling && s.Reason == "":
		return "pulling " + s.Image
	case s.Phase == envmgr.Ready && s.Reason == "" && !s.Found:
		return fmt.Sprintf("ready %s after its start", s.ReadyAt.Sub(s.Started).Round(1e6))
	case s.Reason == "":
		return s.Phase.String()
	default:
		return s.Reason
	}
}

// progress is how far a start is, from 0 to 100.
func progress(s envmgr.Status) int32 {
	switch s.Phase {
	case envmgr.Ready, envmgr.Done:
		return 100
	case envmgr.Probing, envmgr.Degraded:
		return 80
	case envmgr.Creating, envmgr.Starting, envmgr.BackingOff:
		return 60
	case envmgr.Pulling:
		if s.Pull.Total > 0 {
			return int32(10 + 40*s.Pull.Current/s.Pull.Total)
		}
		return 10
	default:
		return 0
	}
}
