package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bbolt believes what is in its file: a page that is not what it should be ends in
// a panic, one that leads back to itself in a recursion without end, and neither of
// those can be caught everywhere (bbolt walks the pages in a goroutine of its own
// when it has no list of the free ones). So the pages are looked at before bbolt
// has them. This file knows bbolt's format, version 2, for that alone:
//
//	page      id(8) flags(2) count(2) overflow(4) elements ...     overflow = pages more
//	meta      magic(4) version(4) page size(4) flags(4) root(8) sequence(8)
//	          list of free pages(8) high-water mark(8) transaction(8) checksum(8)
//	branch    position(4) length of the key(4) page(8)
//	leaf      flags(4) position(4) length of the key(4) length of the value(4)
//	bucket    root(8) sequence(8), and the only page itself where root is 0
//
// Positions count from the element; numbers are as the machine has them.
const (
	pageHead, elementSize, bucketHead, metaSize = 16, 16, 16, 64

	flagBranch, flagLeaf, flagMeta, flagFree = 0x01, 0x02, 0x04, 0x10
	flagBucket                               = 0x01 // of an element of a leaf

	metaMagic, metaFormat = 0xED0CDAED, 2
	// noFreelist stands where the list of free pages was not written.
	noFreelist = ^uint64(0)
)

// maxWhole is the size up to which all pages of a database are looked at. Of a
// larger one they are those that lead to others, about one in a hundred: opening
// must not take longer the more there is. The others are met by whoever reads
// them; see guard.go.
const maxWhole = 8 << 20

var native = binary.NativeEndian

// fileError is what is wrong with a database file.
type fileError string

// Error returns it.
func (b fileError) Error() string { return string(b) }

func fileErrorf(format string, args ...any) error { return fileError(fmt.Sprintf(format, args...)) }

// meta is one of the two pages from which everything else is found. Commits write
// them in turns.
type meta struct {
	page           int    // size of a page; 0 = none that there is
	root, sequence uint64 // of the bucket of buckets
	freelist       uint64
	high           uint64 // pages from this one on are not in use
	tx             uint64
}

// parseMeta returns false for a page that is not whole. bbolt goes by the other one
// then: the commit that wrote it was cut short.
func parseMeta(b []byte) (meta, bool) {
	if len(b) < pageHead+metaSize {
		return meta{}, false
	}
	b = b[pageHead : pageHead+metaSize]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash never fails
	if native.Uint32(b) != metaMagic || native.Uint32(b[4:]) != metaFormat || native.Uint64(b[56:]) != sum.Sum64() {
		return meta{}, false
	}
	m := meta{
		page: int(native.Uint32(b[8:])), root: native.Uint64(b[16:]), sequence: native.Uint64(b[24:]),
		freelist: native.Uint64(b[32:]), high: native.Uint64(b[40:]), tx: native.Uint64(b[48:]),
	}
	if m.page < 1<<10 || m.page > 1<<24 || m.page&(m.page-1) != 0 {
		m.page = 0 // bbolt would take it as it is
	}
	return m, true
}

// readMeta returns the meta page that bbolt would go by. Where there is none, bbolt
// says what it thinks of the file.
func readMeta(f *os.File) (newest meta, ok bool) {
	at := func(offset int64) (meta, bool) {
		var b [pageHead + metaSize]byte
		n, err := f.ReadAt(b[:], offset)
		if err != nil {
			return meta{}, false
		}
		return parseMeta(b[:n])
	}
	first, ok := at(0)
	if ok {
		if second, ok := at(int64(first.page)); ok && second.tx > first.tx {
			if second.page != first.page {
				second.page = 0 // bbolt goes by the first for this, whichever is newer
			}
			return second, true
		}
		return first, true
	}
	for size := int64(1 << 10); size <= 1<<24; size <<= 1 { // the first does not say where the second is
		if second, ok := at(size); ok && int64(second.page) == size {
			return second, true
		}
	}
	return meta{}, false
}

// inspect returns what is wrong with a database file, if anything. Up to a size it
// looks at all of it. It reads the file through a map: whoever calls it is ready for
// that to fail.
func inspect(f *os.File, wholeBytes int64) error {
	m, ok := readMeta(f)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if m.page == 0 {
		return fileErrorf("the size of its pages is none that there is")
	}
	if m.high < 2 {
		return fileErrorf("its high-water mark is page %d", m.high)
	}
	if there := uint64(info.Size()) / uint64(m.page); there < m.high {
		return fileErrorf("it has %d pages, and %d are in use: it was cut short", there, m.high)
	}
	used := int64(m.high) * int64(m.page)
	mapped, err := mapFile(f, used)
	if err != nil {
		return err
	}
	defer mapped.close()
	im := image{data: mapped.data, meta: m, used: make(bitset, m.high/64+1), whole: used <= wholeBytes || m.freelist == noFreelist}
	return im.check()
}

// metaPages are the two meta pages of an open database, mapped for ourselves.
type metaPages struct {
	mu   sync.RWMutex
	page int
	data []byte // nil = it is not open
}

func (p *metaPages) open(f *os.File, page int) error {
	data, err := unix.Mmap(int(f.Fd()), 0, 2*page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", f.Name(), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.page, p.data = page, data
	return nil
}

func (p *metaPages) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.data != nil {
		_ = unix.Munmap(p.data) // what we mapped can be unmapped
		p.data = nil
	}
}

// How often, and how long apart, the pages are looked at before they count as damaged.
const (
	metaLooks = 20
	metaPause = time.Millisecond
)

// newest returns the page that bbolt is about to go by, and panics if that is one from
// before a commit that people were told of. It fails as any access to the file may; see
// guard.
//
// Two commits may pass between the looks at the one page and at the other. Then the first
// looks old, and the second is being written: so what is wrong has to be wrong for a while.
func (p *metaPages) newest(last uint64) (m meta, open bool) {
	for look := 1; ; look++ {
		m, whole, open := p.look()
		switch {
		case !open || whole && m.tx >= last:
			return m, open
		case look < metaLooks:
			time.Sleep(metaPause)
		case !whole:
			panic(fileError("neither of the two pages that it begins with is whole any more"))
		default:
			panic(fileErrorf("its state after commit %d is gone, and that after commit %d came back", last, m.tx))
		}
	}
}

// look returns the newer one of the pages that are whole. Of one that is being written at
// this moment it says nothing yet.
func (p *metaPages) look() (m meta, whole, open bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.data == nil {
		return meta{}, false, false
	}
	first, ok := parseMeta(p.data)
	second, also := parseMeta(p.data[p.page:])
	ok, also = ok && first.page == p.page, also && second.page == p.page
	if !ok || also && second.tx > first.tx {
		return second, also, true
	}
	return first, true, true
}

// checkFreelist looks at the list of free pages that the next commit gives back.
// bbolt does not, and would take the pages of another for free.
func checkFreelist(f *os.File, m meta) error {
	if m.freelist == noFreelist {
		return nil
	}
	var head [pageHead]byte
	switch _, err := f.ReadAt(head[:], int64(m.freelist)*int64(m.page)); {
	case errors.Is(err, io.EOF):
		return fileErrorf("its list of free pages is gone: it was cut short")
	case err != nil:
		return fmt.Errorf("read the list of free pages: %w", err)
	}
	p, more := parsePage(head[:]), uint64(native.Uint32(head[12:]))
	if p.id != m.freelist || p.flags != flagFree || more >= m.high-m.freelist {
		return fileErrorf("page %d is not a list of free pages any more", m.freelist)
	}
	return nil
}

// image is a database file as it is looked at.
type image struct {
	meta
	data []byte
	used bitset // pages that were met; nobody may lead to them again
	// whole says that every page is looked at, and not only those that lead to
	// others.
	whole bool
	// leafRoom is room for the elements of one leaf after another, and branchRoom for
	// those of branches, one for each that is not being looked at.
	leafRoom   []element
	branchRoom [][]element
}

func (im *image) check() error {
	im.used.add(0)
	im.used.add(1)
	free, err := im.free()
	if err != nil {
		return err
	}
	if err := im.tree(im.root, true); err != nil {
		return err
	}
	for i := 0; i < len(free); i += 8 {
		if id := native.Uint64(free[i:]); im.used.has(id) {
			return fileErrorf("page %d is in use and in the list of free pages", id)
		}
	}
	return nil
}

// free returns the list of free pages, 8 bytes each.
func (im *image) free() ([]byte, error) {
	if im.freelist == noFreelist {
		return nil, nil
	}
	p, err := im.take(im.freelist)
	if err != nil {
		return nil, err
	}
	n, list := uint64(p.count), p.data[pageHead:]
	if n == 0xffff { // it did not fit into the head
		n, list = native.Uint64(list), list[8:]
	}
	if p.flags != flagFree || n > uint64(len(list)/8) {
		return nil, fileErrorf("page %d is not a list of free pages", im.freelist)
	}
	list = list[:n*8]
	before := uint64(1)
	for i := 0; i < len(list); i += 8 {
		id := native.Uint64(list[i:])
		if id <= before || id >= im.high {
			return nil, fileErrorf("the list of free pages has page %d behind page %d", id, before)
		}
		before = id
	}
	return list, nil
}

// treePage is a page with all that belongs to it.
type treePage struct {
	id           uint64
	flags, count uint16
	data         []byte
	inline       bool // it is a bucket's only page, and part of an element of another
}

// take returns a page to which something leads, and makes sure that nothing else
// does.
func (im *image) take(id uint64) (treePage, error) {
	if err := im.claim(id); err != nil {
		return treePage{}, err
	}
	at := id * uint64(im.page)
	p := parsePage(im.data[at : at+uint64(im.page)])
	if p.id != id {
		return treePage{}, fileErrorf("page %d says that it is page %d", id, p.id)
	}
	more := uint64(native.Uint32(im.data[at+12:]))
	if more >= im.high-id {
		return treePage{}, fileErrorf("page %d is said to go on for %d pages", id, more)
	}
	for i := range more {
		if err := im.claim(id + 1 + i); err != nil {
			return treePage{}, err
		}
	}
	p.data = im.data[at : at+(more+1)*uint64(im.page)]
	return p, nil
}

func parsePage(b []byte) treePage {
	return treePage{id: native.Uint64(b), flags: native.Uint16(b[8:]), count: native.Uint16(b[10:]), data: b}
}

func (im *image) claim(id uint64) error {
	if id >= im.high {
		return fileErrorf("something leads to page %d, and there are %d", id, im.high)
	}
	if im.used.has(id) {
		return fileErrorf("two things lead to page %d", id)
	}
	im.used.add(id)
	return nil
}

// tree looks at the pages of a bucket. Those at its end, which hold the records, it
// leaves out, unless they are wanted or hold buckets.
func (im *image) tree(root uint64, leaves bool) error {
	leaves = leaves || im.whole
	depth := -1
	if !leaves {
		var err error
		if depth, err = im.depth(root); err != nil {
			return err
		}
	}
	_, err := im.node(root, keyRange{}, depth)
	return err
}

// depth returns how far the leaves are from the root. bbolt keeps all of them
// equally far.
func (im *image) depth(root uint64) (int, error) {
	for id, n := root, 0; ; n++ {
		if id >= im.high || n > 64 { // no tree that fits into a file is that deep
			return 0, fileErrorf("page %d leads nowhere", root)
		}
		p := parsePage(im.data[id*uint64(im.page) : (id+1)*uint64(im.page)])
		switch {
		case p.id == id && p.flags == flagLeaf:
			return n, nil
		case p.id != id || p.flags != flagBranch || p.count == 0:
			return 0, fileErrorf("page %d has number %d, %d elements and flags %#x", id, p.id, p.count, p.flags)
		}
		id = native.Uint64(p.data[pageHead+8:])
	}
}

// keyRange is where the keys below a page have to be: from the first on, and before
// the end. nil = no bound.
type keyRange struct{ first, end []byte }

// node looks at a page and what is below it. depth is how far the leaves are below,
// which are left out then; negative = they are looked at. last is the highest key.
func (im *image) node(id uint64, keys keyRange, depth int) (last []byte, err error) {
	if depth == 0 {
		return keys.first, im.claim(id)
	}
	p, err := im.take(id)
	if err != nil {
		return nil, err
	}
	switch {
	case p.flags == flagLeaf:
		return im.leaf(p, keys)
	case p.flags == flagBranch && p.count > 0:
		return im.branch(p, keys, depth)
	default:
		return nil, fileErrorf("page %d has %d elements and flags %#x", id, p.count, p.flags)
	}
}

func (im *image) branch(p treePage, keys keyRange, depth int) (last []byte, err error) {
	var room []element
	if n := len(im.branchRoom); n > 0 {
		room, im.branchRoom = im.branchRoom[n-1], im.branchRoom[:n-1]
	}
	all, err := p.elements(room)
	if err != nil {
		return nil, err
	}
	defer func() { im.branchRoom = append(im.branchRoom, all) }()
	last = keys.first
	for i, e := range all {
		below := keyRange{e.key, keys.end}
		if i+1 < len(all) {
			below.end = all[i+1].key
		}
		// The first key may be where the one above it says that it is.
		if !inOrder(last, e.key, i == 0) || below.end != nil && bytes.Compare(e.key, below.end) >= 0 {
			return nil, fileErrorf("page %d has its keys out of order", p.id)
		}
		if last, err = im.node(e.page, below, depth-1); err != nil {
			return nil, err
		}
	}
	return last, nil
}

func (im *image) leaf(p treePage, keys keyRange) (last []byte, err error) {
	var buckets []element
	if im.leafRoom, err = p.elements(im.leafRoom); err != nil {
		return nil, err
	}
	last = keys.first
	for i, e := range im.leafRoom {
		if !inOrder(last, e.key, i == 0) || keys.end != nil && bytes.Compare(e.key, keys.end) >= 0 {
			return nil, fileErrorf("page %d has its keys out of order", p.id)
		}
		last = e.key
		if e.bucket && p.inline {
			return nil, fileErrorf("a bucket that is part of a page has a bucket in itself")
		}
		if e.bucket {
			buckets = append(buckets, e)
		}
	}
	for _, e := range buckets {
		if err := im.bucket(e); err != nil {
			return nil, err
		}
	}
	return last, nil
}

func inOrder(before, key []byte, orEqual bool) bool {
	if before == nil {
		return true
	}
	c := bytes.Compare(before, key)
	return c < 0 || c == 0 && orEqual
}

// bucket looks at a bucket within another.
func (im *image) bucket(e element) error {
	if len(e.value) < bucketHead {
		return fileErrorf("bucket %q has %d bytes", e.key, len(e.value))
	}
	root := native.Uint64(e.value)
	if root != 0 {
		return im.tree(root, bytes.Equal(e.key, bucketIDs))
	}
	if len(e.value) < bucketHead+pageHead {
		return fileErrorf("bucket %q has %d bytes", e.key, len(e.value))
	}
	p := parsePage(e.value[bucketHead:])
	p.inline = true
	if p.id != 0 || p.flags != flagLeaf {
		return fileErrorf("bucket %q has page %d, with flags %#x, in itself", e.key, p.id, p.flags)
	}
	_, err := im.leaf(p, keyRange{})
	return err
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
func (s bitset) add(n uint64)      { s[n/64] |= 1 << (n % 64) }
