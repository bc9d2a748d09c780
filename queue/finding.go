package queue

import (
	"fmt"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// FindingKind says what a Finding is about. Programs read it; it does not change.
type FindingKind string

// The kinds.
const (
	FoundFile        FindingKind = "file"        // the database file, as a whole or a page of it
	FoundTask        FindingKind = "task"        // a task is lost: what was asked for cannot be read
	FoundState       FindingKind = "state"       // how far a task has come cannot be told for sure
	FoundPayload     FindingKind = "payload"     // a task's payload is lost
	FoundEnvironment FindingKind = "environment" // a task's environment is lost
	FoundResult      FindingKind = "result"      // a task's result is lost
	FoundTombstone   FindingKind = "tombstone"   // what is kept of a removed task is lost
	FoundEvents      FindingKind = "events"      // records of the event log are lost
	FoundPause       FindingKind = "pause"       // whether a class is paused
	FoundIndex       FindingKind = "index"       // an index disagrees with the records; repair makes it anew
	FoundIdentity    FindingKind = "identity"    // the queue's own id is lost
)

// Finding is one thing that is wrong with a database.
type Finding struct {
	Kind  FindingKind
	Seq   task.Seq // of the task that it is about; 0 = of none, or of nobody knows which
	Last  task.Seq // it is about some of the tasks from Seq to this one; 0 = about Seq alone
	Above bool     // it is about any tasks from Seq on
	ID    string   // of that task; "" = nobody knows it
	Text  string   // a sentence for people, without the task's name
}

// kindsInOrder: what is lost comes before what is wrong with the file, and last what a
// repair makes anew.
var kindsInOrder = []FindingKind{
	FoundIdentity, FoundTask, FoundState, FoundPayload, FoundResult, FoundEnvironment, FoundTombstone, FoundEvents, FoundPause, FoundFile,
	FoundIndex,
}

// byKind sorts by kind, and leaves out what was found twice.
func byKind(list []Finding) []Finding {
	seen := map[Finding]bool{}
	list = slices.DeleteFunc(list, func(f Finding) bool {
		twice := seen[f]
		seen[f] = true
		return twice
	})
	slices.SortStableFunc(list, func(a, b Finding) int {
		return slices.Index(kindsInOrder, a.Kind) - slices.Index(kindsInOrder, b.Kind)
	})
	return list
}

// String names the task.
func (f Finding) String() string {
	switch {
	case f.Above:
		return fmt.Sprintf("tasks number %d and above: %s", f.Seq, f.Text)
	case f.Last != 0:
		return fmt.Sprintf("tasks number %d to %d: %s", f.Seq, f.Last, f.Text)
	case f.ID != "":
		return fmt.Sprintf("task %s (number %d): %s", f.ID, f.Seq, f.Text)
	case f.Seq != 0:
		return fmt.Sprintf("task number %d: %s", f.Seq, f.Text)
	default:
		return f.Text
	}
}

// Holdings are what a database holds.
type Holdings struct {
	QueueID    string
	Tasks      int
	Unfinished int // of the tasks
	Tombstones int
	Events     int
}
