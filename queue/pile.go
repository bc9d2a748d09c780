package queue

import (
	"bytes"
	"slices"
)

// pile is what was found of a bucket.
type pile struct {
	items []element       // in the order of their keys
	lost  []keyRange      // where pages could not be read
	bad   map[string]bool // keys of records that cannot be read
	found []element       // among the pages to which nothing leads
	head  bool            // the bucket itself was found
	seq   uint64          // its sequence
}

// get returns nil when there is no such record.
func (p *pile) get(key []byte) []byte {
	i, ok := p.find(key)
	if !ok {
		return nil
	}
	return p.items[i].value
}

func (p *pile) has(key []byte) bool { _, ok := p.find(key); return ok }

func (p *pile) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(p.items, key, func(e element, k []byte) int { return bytes.Compare(e.key, k) })
}

// gone says whether a record may have been there that cannot be read.
func (p *pile) gone(key []byte) bool {
	if !p.head && len(p.lost) == 0 {
		return true
	}
	if p.bad[string(key)] {
		return true
	}
	for _, r := range p.lost {
		if r.holds(key) {
			return true
		}
	}
	return false
}

// whole says that nothing is missing.
func (p *pile) whole() bool { return p.head && len(p.lost) == 0 && len(p.bad) == 0 }

func (r keyRange) holds(key []byte) bool {
	return (r.first == nil || bytes.Compare(key, r.first) >= 0) && (r.end == nil || bytes.Compare(key, r.end) < 0)
}

func (p *pile) spoiled(key []byte) {
	if p.bad == nil {
		p.bad = map[string]bool{}
	}
	p.bad[string(key)] = true
}

// between counts the records whose keys are numbers from one to another.
func (p *pile) between(from, to uint64) uint64 {
	first, _ := p.find(uint64Key(from))
	behind, there := p.find(uint64Key(to))
	if there {
		behind++
	}
	return uint64(max(0, behind-first))
}
