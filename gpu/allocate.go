package gpu

import (
	"cmp"
	"slices"
)

// Pool gives out devices, one request after another: what one was given, the next
// does not get. It is filled from verdicts, and is for one plan.
type Pool struct {
	devices []offer
	links   []Link
	sharers int
	// hopeless remembers refusals: a device only ever leaves a pool, so what did
	// not fit once will not fit later.
	hopeless map[wish]bool
	// models remembers which devices are of a model that was asked for.
	models map[string][]bool
}

// wish is a request, and whether it may be met with what is kept for another.
type wish struct {
	Request
	borrow bool
}

// offer is a device of a pool.
type offer struct {
	v     *Verdict
	state State
	room  int64
	users int  // leases on it
	kept  bool // for a request that waits; others get it only by Borrow
}

// NewPool returns what the verdicts leave. sharers is how many may share a GPU.
func NewPool(verdicts []Verdict, links []Link, sharers int) *Pool {
	p := &Pool{links: links, sharers: sharers, hopeless: map[wish]bool{}, models: map[string][]bool{}}
	for i := range verdicts {
		v := &verdicts[i]
		if v.State == Free || v.State == Shared {
			p.devices = append(p.devices, offer{v: v, state: v.State, room: v.Room, users: len(v.Holders)})
		}
	}
	return p
}

// Keep sets devices aside for a request that waits, in the place of those that were
// kept before.
func (p *Pool) Keep(ids []DeviceID) {
	for i := range p.devices {
		o := &p.devices[i]
		o.kept = slices.Contains(ids, o.v.ID)
	}
}

// Take gives out what a request needs, or says that it is not there. For the
// same pool and the same requests in the same order, it gives the same. What is
// kept it leaves alone.
func (p *Pool) Take(r Request) (ids []DeviceID, ok bool) {
	return p.give(p.choose(wish{Request: r}), r)
}

// Borrow is Take for who is sure to give back in time what is kept for another:
// what is kept is given to it like the rest.
func (p *Pool) Borrow(r Request) (ids []DeviceID, ok bool) {
	return p.give(p.choose(wish{Request: r, borrow: true}), r)
}

// Has says what Take or, with borrow, Borrow would, and gives nothing out.
func (p *Pool) Has(r Request, borrow bool) bool {
	return r.None() || p.choose(wish{Request: r, borrow: borrow}) != nil
}

func (p *Pool) give(chosen []int, r Request) (ids []DeviceID, ok bool) {
	for _, i := range chosen {
		p.devices[i].give(r)
		ids = append(ids, p.devices[i].v.ID)
	}
	return ids, r.None() || chosen != nil
}

// choose returns the devices that a request gets; nil = it gets none.
func (p *Pool) choose(w wish) (chosen []int) {
	if w.None() || w.Problem() != "" || p.hopeless[w] {
		return nil
	}
	switch w.form() {
	case formWhole:
		chosen = p.whole(w)
	case formShare:
		chosen = p.share(w)
	default:
		chosen = p.instance(w)
	}
	if chosen == nil {
		p.hopeless[w] = true
	}
	return chosen
}

// open says whether an offer may be given to who has a wish.
func (o *offer) open(w wish) bool { return w.borrow || !o.kept }

func (o *offer) give(r Request) {
	o.users++
	if r.form() == formShare {
		o.state, o.room = Shared, o.room-r.Bytes
	} else {
		o.state, o.room = Held, 0
	}
}

// of says which devices are of a model; nil = all.
func (p *Pool) of(model string) []bool {
	if model == "" {
		return nil
	}
	are, known := p.models[model]
	if !known {
		are = make([]bool, len(p.devices))
		for i := range p.devices {
			are[i] = isModel(p.devices[i].v.Model, model)
		}
		p.models[model] = are
	}
	return are
}

// sort is the sort of a device: a task never gets two sorts at once.
type sort struct {
	bytes int64
	model string
}

func (o *offer) sort() sort { return sort{o.v.Device.TotalBytes, o.v.Model} }

// compare orders sorts: who can do with less leaves the larger to others.
func (s sort) compare(t sort) int {
	return cmp.Or(cmp.Compare(s.bytes, t.bytes), cmp.Compare(s.model, t.model))
}

// whole chooses idle GPUs of one sort, the smallest that has enough of them.
func (p *Pool) whole(r wish) []int {
	n, of := r.devices(), p.of(r.Model)
	bySort := map[sort][]int{}
	for i := range p.devices {
		o := &p.devices[i]
		if o.state == Free && o.open(r) && o.v.Kind == Whole && (of == nil || of[i]) && (n == 1 || o.v.NoPeers == "") {
			bySort[o.sort()] = append(bySort[o.sort()], i)
		}
	}
	var among []int
	var least sort
	for s, list := range bySort {
		if len(list) >= n && (among == nil || s.compare(least) < 0) {
			among, least = list, s
		}
	}
	if among == nil {
		return nil
	}
	candidates := make([]*Device, len(among))
	for i, at := range among {
		candidates[i] = p.devices[at].v.Device
	}
	chosen := closenessOf(candidates, p.links).best(n)
	for i, c := range chosen {
		chosen[i] = among[c]
	}
	return chosen
}

// share chooses the shared GPU with the least room that is enough, else an idle
// one, the smallest.
func (p *Pool) share(r wish) []int {
	best, of := -1, p.of(r.Model)
	for i := range p.devices {
		o := &p.devices[i]
		if o.state != Free && o.state != Shared || !o.open(r) || o.users >= p.sharers || o.room < r.Bytes || o.v.Kind != Whole || of != nil && !of[i] {
			continue
		}
		if best < 0 || o.beats(&p.devices[best]) {
			best = i
		}
	}
	return one(best)
}

func (o *offer) beats(other *offer) bool {
	if (o.state == Shared) != (other.state == Shared) {
		return o.state == Shared
	}
	if o.state == Free {
		if c := o.sort().compare(other.sort()); c != 0 {
			return c < 0
		}
	}
	return o.room < other.room
}

// instance chooses an instance of the profile, on the GPU of which the most is
// given out already, so that others stay whole for whoever cuts them anew.
func (p *Pool) instance(r wish) []int {
	given := map[DeviceID]int{}
	for i := range p.devices {
		if o := &p.devices[i]; o.state != Free && o.v.Kind == MIG {
			given[o.v.Device.Parent]++
		}
	}
	best, of := -1, p.of(r.Model)
	for i := range p.devices {
		o := &p.devices[i]
		if o.state != Free || !o.open(r) || o.v.Kind != MIG || of != nil && !of[i] || o.v.Device.Profile != r.MIG {
			continue
		}
		if best < 0 || given[o.v.Device.Parent] > given[p.devices[best].v.Device.Parent] {
			best = i
		}
	}
	return one(best)
}

func one(i int) []int {
	if i < 0 {
		return nil
	}
	return slices.Clone([]int{i})
}
