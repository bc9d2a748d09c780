package lease

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Owner is the owner of the queue, as a worker sees it. Every call says that the worker
// lives, and may be repeated.
type Owner interface {
	// Lease returns attempts for the worker to run, as soon as there is one, or none
	// after Want.Wait. What it returns is in the worker's ledger.
	Lease(ctx context.Context, w Want) (Grant, error)
	// Extend returns what the worker is to do, when that is something else than what it
	// has seen, or after Hold.Wait.
	Extend(ctx context.Context, h Hold) (Orders, error)
	// Complete takes reports. It returns those attempts of which nothing has to be kept
	// any more: their ends are stored, or they were given on.
	Complete(ctx context.Context, worker string, reports []Report) (settled []task.Ref, err error)
}

// Want is a worker's wish for attempts.
type Want struct {
	Worker string
	Room   int // how many it takes now, at most
	Hold   int // how many it wants to have altogether
	Wait   time.Duration
	// Seen is the number of the last Grant that arrived. What was granted after that was
	// lost on its way, and comes again. A worker makes one call at a time.
	Seen uint64
}

// Grant is what it gets.
type Grant struct {
	Lease uint64 // the number under which all of them are claimed
	Tasks []task.Task
}

// Hold says that a worker lives, and which orders it has seen.
type Hold struct {
	Worker string
	Seen   uint64
	Wait   time.Duration
	// Waiting is what it has, and has not begun, of what was granted until Leased. 0 = it does
	// not say. What else the owner takes for that is given on after a while.
	Leased  uint64
	Waiting []task.Ref
}

// Orders are what a worker is to do. They are all that hold now; Serial grows with each
// change.
type Orders struct {
	Serial uint64
	Stop   []task.Ref // attempts to end
	Leave  bool       // take nothing more, and end
}

// Report is about one attempt of a worker.
type Report struct {
	Ref   task.Ref
	Lease uint64
	// Returned says that it has not begun and will not: it may be given to another.
	Returned bool
	// Changes are all events of the attempt so far, in their order.
	Changes []task.Change
}
