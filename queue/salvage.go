package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Salvage reads what a database file still holds, without bbolt and whatever is
// wrong with it. It goes down the trees from their roots, passes over pages that make
// no sense, and remembers between which keys something may be missing. Then it looks
// at the pages to which nothing leads: where a page that led to others is damaged,
// those are still there.
//
// A page that was given up has what it had until it is used again, so the file is
// full of what was true once. What never changes once it is written (specs,
// environments, tombstones, events) may come from any page. What changes (a status,
// a result, an index) counts only where the tree leads to it, or where the list of
// free pages shows that its page was not given up.

// salvaged is what was found in a file. It lies within the file's map.
type salvaged struct {
	piles map[string]*pile
	// exact says that the newest state was found: what is there is what was there
	// last. Else it may be older than it was.
	exact bool
	// notes are what is wrong with the file, in sentences.
	notes []string
}

func (s *salvaged) pile(bucket []byte) *pile {
	p := s.piles[string(bucket)]
	if p == nil {
		p = &pile{}
		s.piles[string(bucket)] = p
	}
	return p
}

func (s *salvaged) note(format string, args ...any) {
	const most = 20
	if len(s.notes) < most {
		s.notes = append(s.notes, fmt.Sprintf(format, args...))
	}
}

// withSalvaged calls use with what is in a file. The file must not change meanwhile.
func (q *Queue) withSalvaged(ctx context.Context, f *os.File, progress Progress, use func(*salvaged) error) error {
	return q.guard(func() error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Size() == 0 {
			return use(&salvaged{piles: map[string]*pile{}, notes: []string{"the file is empty"}})
		}
		mapped, err := mapFile(f, info.Size())
		if err != nil {
			return err
		}
		defer mapped.close()
		s := &salvager{ctx: ctx, tell: progress, found: salvaged{piles: map[string]*pile{}}}
		s.survey(f, mapped.data)
		if err := s.collect(); err != nil {
			return err
		}
		return use(&s.found)
	})
}

// salvager reads one file.
type salvager struct {
	image
	ctx    context.Context
	tell   Progress
	found  salvaged
	freed  bitset // pages in the list of free ones
	listed bool   // there is such a list
	byMeta bool   // a meta page leads to the root
	looked int64  // pages that were looked at
}

// survey finds out how the file is laid out: by its meta pages, or, where none is
// whole, by how its pages number themselves.
func (s *salvager) survey(f *os.File, data []byte) {
	size := pageSizeOf(data)
	if m, ok := readMeta(f); ok {
		size = m.page
	}
	m, whole, mended := bestMeta(data, size)
	s.meta, s.byMeta, s.found.exact = m, whole > 0, whole == 2
	if mended > 0 {
		s.found.note("a bit of the two pages that it begins with is wrong; opened as it is, its last commit could be lost")
	}
	switch whole {
	case 0:
		s.page = size
		s.found.note("neither of the two pages that it begins with is whole, so that nothing says where its newest state is")
	case 1:
		s.found.note("one of the two pages that it begins with is not whole: its last commit was cut short by a power failure, or is lost")
	}
	there := uint64(len(data)) / uint64(s.page)
	switch {
	case whole == 0:
		s.high, s.freelist = there, noFreelist
	case s.high > there:
		s.found.note("it has %d pages, and %d are in use: it was cut short", there, s.high)
		s.high = there
	}
	s.data = data[:s.high*uint64(s.page)]
	s.used, s.freed = make(bitset, s.high/64+1), make(bitset, s.high/64+1)
	s.whole = true
	s.readFree()
}

// pageSizeOf returns the size that makes most pages have the number that they say.
func pageSizeOf(data []byte) int {
	best, size := -1, os.Getpagesize()
	for try := 1 << 10; try <= 1<<16; try <<= 1 {
		right := 0
		for id := 2; (id+1)*try <= len(data) && id < 1000; id++ {
			if native.Uint64(data[id*try:]) == uint64(id) {
				right++
			}
		}
		if right > best {
			best, size = right, try
		}
	}
	return size
}

func (s *salvager) readFree() {
	if !s.byMeta || s.freelist == noFreelist {
		return
	}
	free, err := s.free()
	if err != nil {
		s.found.note("its list of free pages cannot be read: %s", err)
		return
	}
	s.listed = true
	for i := 0; i < len(free); i += 8 {
		s.freed.add(native.Uint64(free[i:]))
	}
}

// collect finds the root, then what is below it, then what is below nothing.
func (s *salvager) collect() error {
	heads, ok := s.rootAt(s.root)
	if !s.byMeta || !ok {
		if s.byMeta {
			s.found.note("page %d, from which everything else is found, is damaged", s.root)
		}
		s.found.exact = false
		heads = s.searchRoot()
	}
	for _, name := range allBuckets {
		e, ok := heads[string(name)]
		if !ok {
			if !younger[string(name)] || !s.found.exact {
				if len(heads) > 0 {
					s.found.note("what leads to bucket %s is gone", name)
				}
				s.found.pile(name).lost = []keyRange{{}}
			}
			continue
		}
		if err := s.bucketOf(name, e); err != nil {
			return err
		}
	}
	if !s.found.exact {
		s.mayBeOlder()
	}
	s.sortPiles()
	if err := s.strays(); err != nil {
		return err
	}
	s.sortPiles()
	return s.ctx.Err()
}

// mayBeOlder notes that records may be missing though every page could be read to which the
// root leads: it may be an older one, from before they were written. Numbers only grow, so
// what is missing is above those that this root has given out. Older ones are not looked for:
// they were removed.
func (s *salvager) mayBeOlder() {
	for _, name := range [][]byte{bucketSpecs, bucketEvents} {
		if p := s.found.pile(name); p.head {
			p.lost = append(p.lost, keyRange{first: uint64Key(p.seq + 1)})
		}
	}
	envs := s.found.pile(bucketEnvs)
	envs.lost = append(envs.lost, keyRange{})
}

func (s *salvager) sortPiles() {
	order := func(a, b element) int { return bytes.Compare(a.key, b.key) }
	for _, p := range s.found.piles {
		p.items = append(p.items, p.found...)
		p.found = nil
		if !slices.IsSortedFunc(p.items, order) {
			slices.SortStableFunc(p.items, order)
		}
		p.items = slices.CompactFunc(p.items, func(a, b element) bool { return bytes.Equal(a.key, b.key) })
	}
}

// peek returns a page without taking it.
func (s *salvager) peek(id uint64) (treePage, bool) {
	if id < 2 || id >= s.high {
		return treePage{}, false
	}
	at := id * uint64(s.page)
	p := parsePage(s.data[at : at+uint64(s.page)])
	more := uint64(native.Uint32(s.data[at+12:]))
	if p.id != id || more >= s.high-id || p.count == 0 || p.flags != flagLeaf && p.flags != flagBranch {
		return treePage{}, false
	}
	p.data = s.data[at : at+(more+1)*uint64(s.page)]
	return p, true
}

// takeAll notes that a page, with those that belong to it, has been read.
func (s *salvager) takeAll(p treePage) {
	for i := range uint64(len(p.data) / s.page) {
		s.used.add(p.id + i)
	}
	s.looked++
	if s.looked%1024 == 0 {
		s.tell.tell("reading", s.looked*int64(s.page), int64(len(s.data)))
	}
}

// bucketOf reads one bucket.
func (s *salvager) bucketOf(name []byte, e element) error {
	p := s.found.pile(name)
	p.head, p.seq = true, sequenceOf(e)
	if bytes.Equal(name, bucketIDs) {
		return nil // made anew from the records
	}
	root := native.Uint64(e.value)
	if root != 0 {
		return s.below(name, p, root, keyRange{}, 0)
	}
	if len(e.value) < bucketHead+pageHead {
		p.lost = append(p.lost, keyRange{})
		return nil
	}
	in := parsePage(e.value[bucketHead:])
	in.inline = true
	if in.flags != flagLeaf {
		p.lost = append(p.lost, keyRange{})
		return nil
	}
	s.leafOf(name, p, in, keyRange{})
	return nil
}

// maxDepth is deeper than any tree that fits into a file.
const maxDepth = 64

// below reads a page of a bucket and what is below it.
func (s *salvager) below(name []byte, into *pile, id uint64, keys keyRange, depth int) error {
	p, ok := s.peek(id)
	empty := !ok && s.emptyLeaf(id)
	switch {
	case empty:
		return nil
	case !ok || depth > maxDepth || s.used.has(id) || s.listed && s.freed.has(id):
		s.found.note("page %d, of bucket %s, cannot be read", id, name)
		into.lost = append(into.lost, keys)
		return nil
	case p.flags == flagLeaf:
		if s.leafOf(name, into, p, keys) {
			s.takeAll(p)
		}
		return s.ctx.Err()
	}
	all, err := p.elements(nil)
	if err != nil || !branchInOrder(all, keys) {
		s.found.note("page %d, which leads to others of bucket %s, is damaged", id, name)
		into.lost = append(into.lost, keys)
		return nil
	}
	s.takeAll(p)
	for i, e := range all {
		part := keyRange{e.key, keys.end}
		if i == 0 {
			part.first = keys.first // a key before the first may have been put there since
		}
		if i+1 < len(all) {
			part.end = all[i+1].key
		}
		if err := s.below(name, into, e.page, part, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// emptyLeaf says whether a page is that of a bucket without records.
func (s *salvager) emptyLeaf(id uint64) bool {
	if id < 2 || id >= s.high {
		return false
	}
	p := parsePage(s.data[id*uint64(s.page):])
	return p.id == id && p.flags == flagLeaf && p.count == 0
}

func branchInOrder(all []element, keys keyRange) bool {
	for i, e := range all {
		if i > 0 && bytes.Compare(all[i-1].key, e.key) >= 0 || keys.end != nil && bytes.Compare(e.key, keys.end) >= 0 {
			return false
		}
		if i > 0 && keys.first != nil && bytes.Compare(e.key, keys.first) < 0 {
			return false
		}
	}
	return true
}

// leafOf reads the records of a page; false says that it is no page of this bucket.
func (s *salvager) leafOf(name []byte, into *pile, p treePage, keys keyRange) bool {
	all, err := p.elements(nil)
	torn := err != nil
	if torn {
		all = p.readable()
	}
	var good []element
	last := keys.first
	for i, e := range all {
		if e.bucket || !keys.holds(e.key) || !inOrder(last, e.key, i == 0) {
			torn = true
			continue
		}
		last = e.key
		if fits(name, e.key, e.value) {
			good = append(good, e)
		} else {
			into.spoiled(e.key)
		}
	}
	if len(good) == 0 && p.count > 1 {
		torn = true
	}
	if torn {
		s.found.note("page %d, of bucket %s, is damaged", p.id, name)
		into.lost = append(into.lost, keys)
	}
	into.items = append(into.items, good...)
	return len(good) > 0
}

// readable returns the entries of a leaf that lie within it, where not all do.
func (p treePage) readable() []element {
	var all []element
	for i := range int(p.count) {
		at := pageHead + i*elementSize
		if at+elementSize > len(p.data) {
			break
		}
		b := p.data[at:]
		position, key, value := uint64(native.Uint32(b[4:])), uint64(native.Uint32(b[8:])), uint64(native.Uint32(b[12:]))
		if key == 0 || position < elementSize || position+key+value > uint64(len(b)) {
			continue
		}
		all = append(all, element{key: b[position : position+key], value: b[position+key : position+key+value], bucket: native.Uint32(b)&flagBucket != 0})
	}
	return all
}

// ErrNothingLeft is what errors.Is finds when there is nothing of a queue in a file.
var ErrNothingLeft = errors.New("nothing of a queue is left in it")
