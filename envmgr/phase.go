package envmgr

// Phase is where a service stands.
type Phase uint8

// The phases.
const (
	Stopped    Phase = iota // nothing runs, and nothing is wanted
	EngineAway              // nobody knows: the engine does not answer
	Waiting                 // for services that it needs
	Pulling                 // its image
	Creating                // its container
	Starting                // its container
	Probing                 // it runs, and does not answer yet
	Ready                   // it answers
	Degraded                // it runs, and something is wrong with it
	BackingOff              // it has ended, and is started again after a while
	Blocked                 // something outside is in its way, as its reason says: a name, a port, a full disk
	Failed                  // nothing is tried any more until somebody asks for it
	Stopping
	Done // it has done its work, which was to be done once
	phases
)

var phaseWords = [phases]string{
	"stopped", "engine_away", "waiting", "pulling", "creating", "starting", "probing", "ready", "degraded", "backing_off", "blocked", "failed",
	"stopping", "done",
}

// String returns the word that programs read; it does not change.
func (p Phase) String() string {
	if p >= phases {
		return "unknown"
	}
	return phaseWords[p]
}

// Settled says that nothing more is to be expected of a start.
func (p Phase) Settled() bool { return p == Ready || p == Done || p == Failed || p == Stopped }
