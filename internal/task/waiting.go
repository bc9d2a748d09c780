package task

// Waiting is how many tasks are Pending, by what they wait for. Those that are
// about to be cancelled are in none of the fields.
type Waiting struct {
	Ready   int // for their turn, and for room
	Blocked int // for other tasks to end
	Delayed int // for the time of their next attempt
	Held    int // for a person
}
