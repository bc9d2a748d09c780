package queue

import (
	"slices"
)

// treePage is a page with all that belongs to it.
type treePage struct {
	id           uint64
	flags, count uint16
	data         []byte
	inline       bool // it is a bucket's only page, and part of an element of another
}

func parsePage(b []byte) treePage {
	return treePage{id: native.Uint64(b), flags: native.Uint16(b[8:]), count: native.Uint16(b[10:]), data: b}
}

// element is an entry of a page: of a branch it has a page, of a leaf a value.
type element struct {
	key, value []byte
	page       uint64
	bucket     bool
}

// elements returns the entries of a branch or a leaf, in the room that it is given if
// that is enough. What they hold lies behind the last of them without a gap, in the
// same order.
func (p treePage) elements(room []element) ([]element, error) {
	end := pageHead + int(p.count)*elementSize
	if end > len(p.data) {
		return nil, fileErrorf("page %d cannot have %d elements", p.id, p.count)
	}
	all := slices.Grow(room[:0], int(p.count))[:p.count]
	for i := range all {
		e, at := &all[i], pageHead+i*elementSize
		b := p.data[at:]
		var position, key, value uint64
		*e = element{}
		if p.flags == flagBranch {
			position, key, e.page = uint64(native.Uint32(b)), uint64(native.Uint32(b[4:])), native.Uint64(b[8:])
		} else {
			e.bucket = native.Uint32(b)&flagBucket != 0
			position, key, value = uint64(native.Uint32(b[4:])), uint64(native.Uint32(b[8:])), uint64(native.Uint32(b[12:]))
		}
		if key == 0 || position != uint64(end-at) || position+key+value > uint64(len(b)) {
			return nil, fileErrorf("element %d of page %d, of %d and %d bytes, is not where it should be", i, p.id, key, value)
		}
		e.key, e.value = b[position:position+key], b[position+key:position+key+value]
		end += int(key + value)
	}
	return all, nil
}

// bitset is a set of numbers.
type bitset []uint64

func (s bitset) has(n uint64) bool { return n/64 < uint64(len(s)) && s[n/64]&(1<<(n%64)) != 0 }

func (s bitset) add(n uint64) { s[n/64] |= 1 << (n % 64) }
