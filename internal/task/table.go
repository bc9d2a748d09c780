package task

import (
	"fmt"
	"slices"
	"strings"
)

// Edge is one line of the table: an event, the states it may find, the states
// it may lead to, and who makes it.
type Edge struct {
	Event EventKind
	From  []State
	To    []State
	Owner string // the one component that makes this event
	Note  string // what else is in the same transaction
}

// Edges is the whole state machine. Apply refuses what is not in it, and
// docs/task-model.md shows it.
var Edges = []Edge{
	{EventSubmitted, nil, []State{Pending}, "queue", "id entry, place in the ready index or among the waiting"},
	{EventPlaced, []State{Pending}, []State{Assigned}, "engine", "backend and lease; refused once a cancel was asked"},
	{EventCancelled, []State{Pending}, []State{Cancelled}, "engine", "nothing was placed, so nothing has to be stopped"},
	{EventRefused, []State{Pending}, []State{Failed}, "queue or engine", "a dependency that can never be satisfied, an image that cannot be had"},
	{EventLaunched, []State{Assigned}, []State{Starting}, "backend", "the handle to find the workload again"},
	{EventStarted, []State{Starting}, []State{Running}, "backend", ""},
	{EventExited, []State{Starting, Running, Stopping}, []State{Succeeded, Failed}, "backend", "result, failure class, lease released, retry decided; from stopping only when the program ended before the stop signal"},
	{EventNotStarted, []State{Assigned, Starting, Stopping}, []State{Failed, Cancelled}, "backend", "lease released, retry decided; cancelled if that was asked meanwhile"},
	{EventStopping, []State{Assigned, Starting, Running}, []State{Stopping}, "engine or backend", "the cause: cancel or timeout"},
	{EventStopped, []State{Stopping}, []State{Cancelled, Failed}, "backend", "lease released, only once the workload is known to be gone"},
	{EventVanished, []State{Assigned, Starting, Running, Stopping}, []State{Lost}, "backend", "lease released; a new attempt or the end, by on_lost"},
	{EventRetried, []State{Failed, Lost, Cancelled}, []State{Pending}, "engine, for a person", "attempt + 1, retry budgets fresh"},
}

// edge returns the table's line for an event.
func edge(k EventKind) (Edge, bool) {
	for _, e := range Edges {
		if e.Event == k {
			return e, true
		}
	}
	return Edge{}, false
}

// allows says whether the line leads on from s.
func (e Edge) allows(s State) bool {
	return slices.Contains(e.From, s)
}

// Markdown renders the table for docs/task-model.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| event | from | to | made by | in the same transaction |\n|---|---|---|---|---|\n")
	for _, e := range Edges {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", e.Event, stateList(e.From), stateList(e.To), e.Owner, e.Note)
	}
	return b.String()
}

func stateList(states []State) string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}
