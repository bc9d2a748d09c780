package slurm

// State is the state of a job, as Slurm spells it in full.
type State string

// phase is what a state means to us.
type phase uint8

const (
	waits   phase = iota // it has not begun
	works                // its script runs, or may run
	leaves               // it has ended, and its processes may still be there
	gone                 // nothing is left of it
	unknown              // a state that we do not know: nothing is concluded from it
)

// states are those of Slurm 22.05 to 25.11 (job_state_string in its source, and the
// manual page of squeue).
var states = map[State]phase{
	"PENDING": waits, "CONFIGURING": waits, "REQUEUED": waits, "REQUEUE_HOLD": waits, "REQUEUE_FED": waits,
	"RESV_DEL_HOLD": waits, "SPECIAL_EXIT": waits, "EXPEDITING": waits, "POWER_UP_NODE": waits,
	"RUNNING": works, "SUSPENDED": works, "STOPPED": works, "SIGNALING": works, "RESIZING": works, "STAGE_OUT": works,
	"COMPLETING": leaves, "UPDATE_DB": leaves,
	"COMPLETED": gone, "FAILED": gone, "CANCELLED": gone, "TIMEOUT": gone, "PREEMPTED": gone, "NODE_FAIL": gone,
	"BOOT_FAIL": gone, "DEADLINE": gone, "OUT_OF_MEMORY": gone, "REVOKED": gone, "LAUNCH_FAILED": gone, "RECONFIG_FAIL": gone,
}

func (s State) phase() phase {
	if p, ok := states[s]; ok {
		return p
	}
	return unknown
}
