package queue

import "github.com/dspy-agent/dspy-agent/internal/failpoint"

// The places where a crash test can die while a database is made anew.
var careSteps = []string{"begun", "written", "before-rename", "before-current", "after-current"}

var _ = failpoint.Declare(careNames()...)

func careNames() []string {
	var names []string
	for _, what := range []string{careRepair, careRestore, careCompact} {
		for _, step := range careSteps {
			names = append(names, careName(what, step))
		}
	}
	return names
}

const (
	careRepair  = "repair"
	careRestore = "restore"
	careCompact = "compact"
)

// careName is outside "queue/", whose places are those of a queue that is in use.
func careName(what, step string) string { return "queuecare/" + what + "/" + step }

func crashIn(what, step string) {
	if failpoint.Enabled {
		failpoint.Here(careName(what, step))
	}
}

// Progress is told how much of a piece of work is done; total is 0 where it is not
// known. It is called often, and by the goroutine that does the work.
type Progress func(step string, done, total int64)

func (p Progress) tell(step string, done, total int64) {
	if p != nil {
		p(step, done, total)
	}
}
