package queue

import (
	"fmt"
	"hash/fnv"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

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
