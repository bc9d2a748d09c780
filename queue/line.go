package queue

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The line is all ready tasks, across shapes, by Order and Seq. On disk it is cut
// into shapes. Memory has, for each shape, where its first task stands, in a heap
// per class: the first of the class is at its root, and a walk goes down from
// there as far as it has to. So a round of scheduling costs what it looks at,
// whether the others that wait are of one shape or of a hundred thousand, and a
// class that it does not want costs it nothing.

// spot is a place in the line.
type spot struct {
	order task.Instant
	seq   task.Seq
}

func (a spot) compare(b spot) int {
	return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.seq, b.seq))
}

// keySpot reads the place out of a key of the ready index.
func keySpot(k []byte) spot {
	k = keyOf(k, readyKeyLen)
	return spot{keyInstant(k[4:12]), keySeq(k[12:])}
}

// front is where a shape begins in the line. It is replaced, not changed, when
// that changes.
type front struct {
	id    shapeID
	class *classLine
	need  scheduler.Usage
	first spot
	at    int // in the fronts of its class
	// head is the first task, once somebody has read it.
	head atomic.Pointer[scheduler.Head]
}

// fronts are the fronts of the shapes of a class, as a heap.
type fronts []*front

// Len, Less, Swap, Push and Pop make it a heap.Interface.
func (f fronts) Len() int           { return len(f) }
func (f fronts) Less(i, j int) bool { return f[i].first.compare(f[j].first) < 0 }
func (f fronts) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].at, f[j].at = i, j
}

// Push appends a *front.
func (f *fronts) Push(x any) {
	n := x.(*front) //nolint:errcheck // only fronts are pushed
	n.at = len(*f)
	*f = append(*f, n)
}

// Pop removes the last.
func (f *fronts) Pop() any {
	old := *f
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return n
}

// line finds the front of each shape.
type line struct {
	classes map[string]*classLine // those that have something in the line
	byShape map[shapeID]*front
}

// classLine is the part of the line that is of one class.
type classLine struct {
	name     string
	fronts   fronts
	cpu, mem sizes // what the shapes need
}

func newLine() line { return line{classes: map[string]*classLine{}, byShape: map[shapeID]*front{}} }

// put says where a shape begins now.
func (l *line) put(id shapeID, shape string, first spot) {
	n := &front{id: id, first: first}
	if old, ok := l.byShape[id]; ok {
		n.class, n.need, n.at = old.class, old.need, old.at
		n.class.fronts[n.at] = n
		heap.Fix(&n.class.fronts, n.at)
		l.byShape[id] = n
		return
	}
	// What is no shape is of no class, and needs nothing that could rule it out.
	name, cpu, mem, _ := task.ParseShape(shape)
	n.need = scheduler.Usage{CPUMilli: cpu, MemBytes: mem}
	if n.class = l.classes[name]; n.class == nil {
		n.class = &classLine{name: name}
		l.classes[name] = n.class
	}
	heap.Push(&n.class.fronts, n)
	n.class.cpu.add(cpu)
	n.class.mem.add(mem)
	l.byShape[id] = n
}

func (l *line) drop(id shapeID) {
	n, ok := l.byShape[id]
	if !ok {
		return
	}
	delete(l.byShape, id)
	heap.Remove(&n.class.fronts, n.at)
	n.class.cpu.remove(n.need.CPUMilli)
	n.class.mem.remove(n.need.MemBytes)
	if len(n.class.fronts) == 0 {
		delete(l.classes, n.class.name)
	}
}

// Least says, for each class that has something in the line, less than which no
// shape of it needs.
func (q *Queue) Least() map[string]scheduler.Usage {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	classes := q.mem.shapes.line.classes
	out := make(map[string]scheduler.Usage, len(classes))
	for name, c := range classes {
		out[name] = scheduler.Usage{CPUMilli: c.cpu.least(), MemBytes: c.mem.least()}
	}
	return out
}

// Line shows the ready tasks to visit, the first of the line first, until it
// answers Stop. After Skip it is shown no more of that shape, after SkipClass no
// more of that class. Its cost depends on how much visit looks at, and hardly on
// how many wait or of how many shapes.
//
// visit is called while the queue holds a lock and a transaction for reading: it
// must not wait, and must not call the queue.
func (q *Queue) Line(visit func(scheduler.Head) scheduler.Verdict) error {
	// The lock comes first, so that what is read is not older than a front: a front
	// remembers its head.
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	return q.view(func(tx *bolt.Tx) error {
		w := walk{q: q, tx: tx, shapes: &q.mem.shapes}
		return w.run(visit)
	})
}

// walk is one walk along the line.
type walk struct {
	q       *Queue
	tx      *bolt.Tx
	shapes  *shapes
	next    steps
	skipped []*classLine
}

// step is a task that the walk may come to: the front of a shape, or one behind a
// front that was passed.
type step struct {
	spot
	front  *front
	below  int          // where the front is in the heap, whose children come after it; -1 = it is behind a front
	cursor *bolt.Cursor // at the task, if it is behind a front
	value  []byte
}

func (w *walk) run(visit func(scheduler.Head) scheduler.Verdict) error {
	for _, c := range w.shapes.line.classes {
		w.consider(c, 0)
	}
	for len(w.next) > 0 {
		s := w.next.pop()
		if slices.Contains(w.skipped, s.front.class) {
			continue
		}
		head, err := w.read(&s)
		if err != nil {
			return err
		}
		verdict := scheduler.More // what cannot be read, or was placed meanwhile, is passed
		if head != nil {
			verdict = visit(*head)
		}
		switch verdict {
		case scheduler.Stop:
			return nil
		case scheduler.SkipClass:
			w.skipped = append(w.skipped, s.front.class)
			continue
		case scheduler.More:
			w.behind(&s)
		case scheduler.Skip:
		}
		if s.below >= 0 {
			w.consider(s.front.class, 2*s.below+1)
			w.consider(s.front.class, 2*s.below+2)
		}
	}
	return nil
}

// consider makes a front one that the walk may come to.
func (w *walk) consider(c *classLine, i int) {
	if i < len(c.fronts) {
		f := c.fronts[i]
		w.next.push(step{spot: f.first, front: f, below: i})
	}
}

// read returns the task of a step; nil when there is none to be shown.
func (w *walk) read(s *step) (*scheduler.Head, error) {
	if w.q.unreadable(s.seq) {
		return nil, nil
	}
	if s.cursor == nil {
		if h := s.front.head.Load(); h != nil {
			return h, nil
		}
		if !w.seek(s) {
			return nil, nil
		}
	}
	h, err := readHead(w.tx, s.spot, w.shapes.names[s.front.id], s.value)
	if err != nil {
		if w.q.passOver(bucketReady, readyKey(s.front.id, s.order, s.seq), s.seq, err) {
			err = nil
		}
		return nil, err
	}
	if s.below >= 0 {
		s.front.head.Store(&h)
	}
	return &h, nil
}

// seek goes to the front in the transaction, which may be a commit ahead of
// memory, so that the task need not be there any more.
func (w *walk) seek(s *step) bool {
	s.cursor = w.tx.Bucket(bucketReady).Cursor()
	key := readyKey(s.front.id, s.order, s.seq)
	k, v := s.cursor.Seek(key)
	s.value = v
	return bytes.Equal(k, key)
}

// behind makes the task behind this one of its shape one that the walk may come to.
func (w *walk) behind(s *step) {
	key := readyKey(s.front.id, s.order, s.seq)
	if s.cursor == nil {
		s.cursor = w.tx.Bucket(bucketReady).Cursor()
	}
	k, v := s.cursor.Seek(key)
	if bytes.Equal(k, key) {
		k, v = s.cursor.Next()
	}
	if bytes.HasPrefix(k, key[:4]) {
		behind := keySpot(k)
		if behind.compare(s.spot) <= 0 {
			panic(fileError("the line of ready tasks leads back to where it came from"))
		}
		w.next.push(step{spot: behind, front: s.front, below: -1, cursor: s.cursor, value: v})
	}
}

// steps are the steps that the walk may come to, as a heap: the first of the line
// is at the root. A round may pass thousands, so they are not boxed one by one, as
// container/heap would.
type steps []step

func (s *steps) push(n step) {
	h := append(*s, n)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up].compare(n.spot) <= 0 {
			break
		}
		h[i], i = h[up], up
	}
	h[i] = n
	*s = h
}

func (s *steps) pop() step {
	h := *s
	root, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	i := 0
	for 2*i+1 < len(h) {
		down := 2*i + 1
		if down+1 < len(h) && h[down+1].compare(h[down].spot) < 0 {
			down++
		}
		if last.compare(h[down].spot) <= 0 {
			break
		}
		h[i], i = h[down], down
	}
	if len(h) > 0 {
		h[i] = last
	}
	*s = h
	return root
}
