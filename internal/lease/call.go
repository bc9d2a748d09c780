package lease

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
)

// Calls travel through two files where there is no connection: the worker adds what it
// asks to one, and the owner the answers to the other. A call says which earlier ones are
// still waited for; the rest of both files nobody needs.

// Call is a question, and Reply its answer, which may come after those to later ones.
type Call struct {
	ID      uint64 // grows with each call
	Waiting []uint64
	Method  string
	Body    []byte
}

// Reply is the answer to a Call.
type Reply struct {
	ID     uint64
	Failed bool // Body says why
	Body   []byte
}

// most is how many earlier calls are named, and how long the name of a method is.
const most = 255

func (c Call) marshal() []byte {
	waiting := c.Waiting[max(0, len(c.Waiting)-most):]
	method := c.Method[:min(len(c.Method), most)]
	b := binary.LittleEndian.AppendUint64(nil, c.ID)
	b = append(b, byte(len(waiting)))
	for _, id := range waiting {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	b = append(append(b, byte(len(method))), method...)
	return append(b, c.Body...)
}

func parseCall(b []byte) (c Call, ok bool) {
	if len(b) < 9 {
		return c, false
	}
	c.ID = binary.LittleEndian.Uint64(b)
	n, b := int(b[8]), b[9:]
	if len(b) < 8*n+1 {
		return c, false
	}
	for i := range n {
		c.Waiting = append(c.Waiting, binary.LittleEndian.Uint64(b[8*i:]))
	}
	n, b = int(b[8*n]), b[8*n+1:]
	if len(b) < n {
		return c, false
	}
	c.Method, c.Body = string(b[:n]), b[n:]
	return c, true
}

func (r Reply) marshal() []byte {
	failed := byte(0)
	if r.Failed {
		failed = 1
	}
	b := append(binary.LittleEndian.AppendUint64(nil, r.ID), failed)
	return append(b, r.Body...)
}

func parseReply(b []byte) (r Reply, ok bool) {
	if len(b) < 9 {
		return r, false
	}
	return Reply{ID: binary.LittleEndian.Uint64(b), Failed: b[8] == 1, Body: b[9:]}, true
}

// Outbox is the worker's end of the files. Ask and Replies may be used at the same time,
// each by one at a time.
type Outbox struct {
	ask    frameWriter
	answer frameReader
	open   map[uint64][]byte // the calls that were waited for at the last one
}

// NewOutbox makes it. The folder has to be there.
func NewOutbox(f Folder) *Outbox {
	return &Outbox{ask: frameWriter{path: f.Ask()}, answer: frameReader{path: f.Answer()}, open: map[uint64][]byte{}}
}

// Ask adds a call.
func (o *Outbox) Ask(c Call) error {
	b := c.marshal()
	for id := range o.open {
		if !slices.Contains(c.Waiting, id) {
			delete(o.open, id)
		}
	}
	if err := o.write(b); err != nil {
		return err
	}
	o.open[c.ID] = b
	return nil
}

func (o *Outbox) write(b []byte) error {
	if !o.ask.long() {
		return o.ask.add(b)
	}
	var frames [][]byte
	for _, id := range slices.Sorted(maps.Keys(o.open)) {
		frames = append(frames, o.open[id])
	}
	return o.ask.anew(append(frames, b))
}

// Replies returns those that are new. One may come again.
func (o *Outbox) Replies() (replies []Reply, err error) {
	frames, err := o.answer.read()
	for _, b := range frames {
		if r, ok := parseReply(b); ok {
			replies = append(replies, r)
		}
	}
	return replies, err
}

// Inbox is the owner's end of the files. Calls and Reply may be used at the same time.
type Inbox struct {
	ask   frameReader
	begun bool // the file of calls was read; of one caller of Calls at a time

	mu     sync.Mutex
	newest Call // without what it asks

	writing sync.Mutex
	answer  frameWriter
}

// NewInbox makes it.
func NewInbox(f Folder) *Inbox {
	return &Inbox{ask: frameReader{path: f.Ask()}, answer: frameWriter{path: f.Answer()}}
}

// Calls returns those that are new. After an owner that was there before, these are those
// that the worker still waits for.
func (i *Inbox) Calls() (calls []Call, err error) {
	var answered map[uint64]bool
	first := !i.begun
	if first {
		if answered, err = i.takeOver(); err != nil {
			return nil, err
		}
	}
	frames, err := i.ask.read()
	i.begun = i.ask.file != nil
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, b := range frames {
		if c, ok := parseCall(b); ok && c.ID > i.newest.ID { // a new file has old ones, too
			calls, i.newest = append(calls, c), Call{ID: c.ID, Waiting: c.Waiting}
		}
	}
	if first {
		calls = slices.DeleteFunc(calls, func(c Call) bool { return answered[c.ID] || !i.awaited(c.ID) })
	}
	return calls, err
}

// takeOver makes the file of answers fit to be added to, and returns what was answered.
func (i *Inbox) takeOver() (answered map[uint64]bool, err error) {
	i.writing.Lock()
	defer i.writing.Unlock()
	frames, err := i.answer.begin()
	if err != nil {
		return nil, err
	}
	answered = map[uint64]bool{}
	for _, b := range frames {
		if r, ok := parseReply(b); ok {
			answered[r.ID] = true
		}
	}
	return answered, nil
}

// awaited says whether the worker waits for the reply to a call, as far as it has said. The
// mutex is held.
func (i *Inbox) awaited(id uint64) bool {
	return id >= i.newest.ID || slices.Contains(i.newest.Waiting, id)
}

// Reply adds an answer.
func (i *Inbox) Reply(r Reply) error {
	i.writing.Lock()
	defer i.writing.Unlock()
	if !i.answer.long() {
		return i.answer.add(r.marshal())
	}
	old, err := (&frameReader{path: i.answer.path}).read()
	if err != nil {
		return err
	}
	i.mu.Lock()
	frames := slices.DeleteFunc(old, func(b []byte) bool {
		r, ok := parseReply(b)
		return !ok || !i.awaited(r.ID)
	})
	i.mu.Unlock()
	return i.answer.anew(append(frames, r.marshal()))
}
