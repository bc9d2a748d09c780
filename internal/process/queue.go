package process

import (
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// queue is what the supervisor knows about one queue. The supervisor's mutex
// guards it.
type queue struct {
	id       string
	journal  *journal // its file belongs to whoever set writing
	attempts map[task.Ref]*attempt
	forking  int // attempts between claim and process, without those that are stuck

	clerk     waker       // wakes its clerk
	leaving   []departure // for the clerk
	unopened  []*attempt  // whose output the clerk is to open
	adopting  bootTime    // since when the journals of earlier boots are read; 0 = they are not
	writing   bool        // somebody writes the journal
	rewrite   bool        // the journal is to be replaced by a smaller one
	size      int64       // of the journal
	compactAt bootTime    // not before
	sequels   []sequel    // what follows from records, in their order
	trouble   trouble
	former    formerLook
	restoring string // what was said last about a journal that was removed; the clerk's own
	beats     uint64 // of the card (see show); the clerk's own, but for the first and the last
	shared    bool   // its spool is on a file server
	fence     uint64 // the highest of an owner that was heard of

	pools  []*pool
	logCap int64
	nice   int
	conn   *conn      // nil = no client
	dirty  []*attempt // to be reported to it
	// forgotten answers late repeats of a start after its attempt was forgotten.
	forgotten recent
}

// pool is a line of attempts of which so many run at a time.
type pool struct {
	name    string
	limit   int // 0 = none
	running int
	waiting []*attempt
}

func (p *pool) room() bool { return p.limit == 0 || p.running < p.limit }

// poolOf returns the pool with that name, making it as needed. An attempt
// without a pool gets the one named "", which has no limit.
func (q *queue) poolOf(name string) *pool {
	for _, p := range q.pools {
		if p.name == name {
			return p
		}
	}
	p := &pool{name: name}
	q.pools = append(q.pools, p)
	return p
}

// drop takes out an attempt whose end is stored elsewhere. One that was recalled has not
// begun, and may come back.
func (q *queue) drop(a *attempt) {
	delete(q.attempts, a.ref)
	if !a.recalled() {
		q.forgotten.add(a.ref)
	}
}

// touch has the attempt reported.
func (q *queue) touch(a *attempt) {
	if a.dirty || q.conn == nil {
		return
	}
	a.dirty = true
	q.dirty = append(q.dirty, a)
	q.conn.out.wake()
}

// touchAll has everything reported, to a client that just came.
func (q *queue) touchAll() {
	// What is dirty already stays: a refused start is in no other list.
	for _, a := range q.attempts {
		if !a.dirty {
			a.dirty = true
			q.dirty = append(q.dirty, a)
		}
	}
}

// takeDirty returns reports on at most n attempts that changed.
func (q *queue) takeDirty(n int) (reports []*supervisorpb.Report, more bool) {
	n = min(n, len(q.dirty))
	reports = make([]*supervisorpb.Report, n)
	for i, a := range q.dirty[:n] {
		a.dirty = false
		reports[i] = a.report()
	}
	clear(q.dirty[:n])
	q.dirty = q.dirty[n:]
	return reports, len(q.dirty) > 0
}

// recent remembers the last few thousand attempts that were forgotten.
type recent struct {
	set  map[task.Ref]struct{}
	ring []task.Ref
	next int
}

const recentSize = 4096

func (r *recent) add(ref task.Ref) {
	if r.set == nil {
		r.set = make(map[task.Ref]struct{})
	}
	if len(r.ring) < recentSize {
		r.ring = append(r.ring, ref)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = ref
		r.next = (r.next + 1) % recentSize
	}
	r.set[ref] = struct{}{}
}

func (r *recent) has(ref task.Ref) bool {
	_, ok := r.set[ref]
	return ok
}
