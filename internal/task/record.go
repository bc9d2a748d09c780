package task

import "encoding/json"

// Record is one line of the event log: that something happened to a task, or, with
// EventGPUFailed, to a GPU, in the order in which it was committed. Followers (streams, publishers) read
// records by Index and remember how far they came.
type Record struct {
	Index   uint64  // from 1, without gaps
	At      Instant // when it was committed, which may be long after it happened
	Seq     Seq
	ID      string
	Class   string
	Kind    EventKind
	Attempt int   // the attempt the event was about
	From    State // 0 for EventSubmitted
	To      State // of that attempt
	// Again is set when the attempt ended and another follows: the task is
	// Pending again, not before NotBefore.
	Again     bool
	NotBefore Instant
	Backend   string
	Outcome   Outcome // for endings
	Text      string  // the backend's word, who cancelled, why
	Fence     uint64  `json:",omitempty"` // of the owner that wrote it, and never lower than before; 0 = an older release did
}

// Ended says whether the task itself has ended with this record: no attempt
// follows unless a person asks for one.
func (r Record) Ended() bool { return r.To.Terminal() && !r.Again }

// Final is the outcome of a task that is kept after retention removed the task.
type Final struct {
	ID      string
	Seq     Seq
	State   State
	EndedAt Instant
	Digest  Digest
}

// Result is what a task gave back: a JSON object, or nil.
type Result = json.RawMessage

// Filter selects tasks for a listing. Zero fields do not filter.
type Filter struct {
	Class  string
	States []State
	// IDPrefix is what the id begins with, and Name what the name has in it.
	IDPrefix, Name string
	Before         Seq // only tasks submitted before this one; 0 = from the newest
	Limit          int // at most so many; 0 = DefaultLimit
}

// DefaultLimit is the length of a page of a listing.
const DefaultLimit = 100

// Counts is how many tasks there are, by class and state.
type Counts map[string]map[State]int

// Total returns how many tasks of all classes are in one of the states.
func (c Counts) Total(states ...State) int {
	n := 0
	for _, byState := range c {
		for _, s := range states {
			n += byState[s]
		}
	}
	return n
}
