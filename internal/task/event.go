package task

import (
	"fmt"
	"maps"
	"slices"
)

// EventKind says what happened.
type EventKind uint8

// The kinds. The numbers are stored in the event log; new ones go at the end of
// their group. The first group moves the state, by the edges in table.go; the
// second changes something else and leaves the state as it is.
const (
	EventSubmitted   EventKind = 1  // accepted; made by New, never by Apply
	EventPlaced      EventKind = 2  // given a backend and a lease
	EventCancelled   EventKind = 3  // ended before it was placed
	EventRefused     EventKind = 4  // can never run
	EventLaunched    EventKind = 5  // handed to the backend; carries the handle
	EventStarted     EventKind = 6  // seen to run
	EventExited      EventKind = 7  // ended by itself
	EventNotStarted  EventKind = 8  // the backend could not start it
	EventStopping    EventKind = 9  // we have begun to end it
	EventStopped     EventKind = 10 // it is gone after we ended it
	EventVanished    EventKind = 11 // nobody saw how it ended
	EventRetried     EventKind = 12 // a person wants another attempt
	EventCancelAsked EventKind = 32 // somebody asked to cancel it
	EventDepEnded    EventKind = 33 // a task that it waits for ended as wanted
	EventNoted       EventKind = 34 // the backend's word about its state changed
	EventHeld        EventKind = 35 // held back; let go when Text is empty
)

// EventGPUFailed is of no task, and never applied to one: a GPU has become unhealthy, or is
// gone. Its Record has the UUID as ID, and no Seq.
const EventGPUFailed EventKind = 64

var eventNames = map[EventKind]string{
	EventSubmitted: "submitted", EventPlaced: "placed", EventCancelled: "cancelled", EventRefused: "refused",
	EventLaunched: "launched", EventStarted: "started", EventExited: "exited", EventNotStarted: "could_not_start",
	EventStopping: "stopping", EventStopped: "stopped", EventVanished: "vanished", EventRetried: "retried",
	EventCancelAsked: "cancel_asked", EventDepEnded: "dependency_ended", EventNoted: "noted", EventHeld: "held",
}

// Ends says whether it is the last that a backend reports of an attempt.
func (k EventKind) Ends() bool {
	return k == EventExited || k == EventNotStarted || k == EventStopped || k == EventVanished
}

// EventKinds lists every kind that is of a task, in order.
func EventKinds() []EventKind { return slices.Sorted(maps.Keys(eventNames)) }

// String returns the lower-case name of the kind.
func (k EventKind) String() string {
	if n, ok := eventNames[k]; ok {
		return n
	}
	if k == EventGPUFailed {
		return TypeGPUUnhealthy
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is something that happened to an attempt of a task. Which fields count
// depends on the kind; the others are ignored.
type Event struct {
	Kind    EventKind
	At      Instant // when it happened, by the clock of whoever saw it
	Attempt int     // which attempt it is about

	Backend string // Placed
	Lease   Lease  // Placed
	Handle  []byte // Launched: how to find the workload again
	Cause   Cause  // Stopping
	Blocked int    // Retried: dependencies that have not ended

	// Exited, Stopped: how the program ended. Class is filled in by Apply
	// unless the reporter knows better (OutOfMemory, GPULost, Preempted ...).
	Outcome Outcome
	// Exited: no stop signal had been sent when the program ended, so that this
	// result stands even if we were about to stop it.
	Unprompted bool

	Class FailureClass // NotStarted, Vanished, Refused
	Text  string       // a sentence for people; By for CancelAsked is in By
	By    string       // CancelAsked, Retried, Held: who
}

// Change is an event and the task it is about: what backends report and what
// the store applies.
type Change struct {
	Seq   Seq
	Event Event
	// Result is what the program gave back, for EventExited. It is stored in the
	// same transaction.
	Result Result
}

// Applied is what became of a Change.
type Applied struct {
	Task Task  // after the change, or as it is when Err is set
	From State // before the change
	Err  error // ErrStale, ErrIllegal or an Error; the task is unchanged then
}

// Again says whether the change ended an attempt and another one follows.
func (a Applied) Again() bool {
	return a.Err == nil && a.From.Active() && a.Task.State() == Pending
}
