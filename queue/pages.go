package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// bbolt believes what is in its file: a page that is not what it should be ends in
// a panic, one that leads back to itself in a recursion without end, and neither of
// those can be caught everywhere (bbolt walks the pages in a goroutine of its own
// when it has no list of the free ones). So the pages are looked at before bbolt
// has them. What knows its format, version 2, is here and in the files beside this one,
// metapages.go, page.go and pagetree.go, for that alone:
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
