package doctor

import (
	"fmt"
	"slices"
	"time"
)

// Status says how good or bad a finding is.
type Status string

// The statuses, from good to bad.
const (
	OK      Status = "ok"
	Note    Status = "note"    // nothing to do, but good to know
	Warning Status = "warning" // works, and may not for long or not as expected
	Problem Status = "problem" // does not work
)

// Statuses lists all of them, from good to bad.
var Statuses = []Status{OK, Note, Warning, Problem}

// Finding is what a check has found.
type Finding struct {
	Name   string // of the check, see Checks
	Status Status
	Text   string // what was found, in a sentence
	Mend   string // what to do; "" when there is nothing
}

// good makes the findings of a check that has only good to tell.
func good(format string, args ...any) []Finding {
	return []Finding{{Status: OK, Text: fmt.Sprintf(format, args...)}}
}

// bad makes the only finding of a check.
func bad(status Status, text, mend string) []Finding {
	return []Finding{{Status: status, Text: text, Mend: mend}}
}

// Silent makes the findings of the checks that had told nothing when they were cut
// off. A check that waits for what another one asks first is not to blame, and left
// out. queue is the folder of the queue, if that is known.
func Silent(told map[string]bool, queue string) []Finding {
	var out []Finding
	silent := map[string]bool{}
	for _, c := range checks { // one stands behind those that it waits for
		if told[c.name] {
			continue
		}
		silent[c.name] = true
		if c.after == "" || !silent[c.after] {
			out = append(out, c.silence(queue))
		}
	}
	return out
}

func (c check) silence(queue string) Finding {
	text := "no answer within " + Limit.String() + " from " + c.asks
	if c.asks == asksQueue && queue != "" {
		text += " (" + queue + ")"
	}
	if slices.ContainsFunc(checks, func(other check) bool { return other.after == c.name }) {
		text += "; what depends on it was not looked at"
	}
	return Finding{Name: c.name, Status: Problem, Text: text, Mend: "see whether the file server behind it is up (mount, df), then run doctor again"}
}

const (
	// Patience is how long a check waits for what it asks.
	Patience = 3 * time.Second
	// Limit is how long all checks together may take, before what has not ended is
	// taken to hang. It leaves a busy machine some time beyond Patience.
	Limit = 5 * time.Second
)
