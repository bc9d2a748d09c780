package queue

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fileMap is a file as it is looked at without bbolt.
type fileMap struct{ data []byte }

// mapFile maps a file up to a size. Where nothing was ever written it has memory of ours,
// which reads the same: to show a hole, a file system in memory needs a page, and a full
// one has none.
func mapFile(f *os.File, size int64) (*fileMap, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	m := &fileMap{data}
	if err := m.coverHoles(f); err != nil {
		m.close()
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	return m, nil
}

// coverHoles maps memory over the holes. A file system that does not tell of holes has
// none.
func (m *fileMap) coverHoles(f *os.File) error {
	size, page := int64(len(m.data)), int64(os.Getpagesize())
	fd := int(f.Fd())
	for at := int64(0); at < size; {
		from, err := unix.Seek(fd, at, unix.SEEK_HOLE)
		if err != nil || from >= size {
			return nil //nolint:nilerr // none is known
		}
		to, err := unix.Seek(fd, from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			to, err = size, nil // to its end
		}
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		from, to = (from+page-1)/page*page, min(to, size)
		if end := to / page * page; to < size {
			to = end
		}
		if from < to {
			at := unsafe.Pointer(&m.data[from])
			if _, err := unix.MmapPtr(-1, 0, at, uintptr(to-from), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED); err != nil {
				return err
			}
		}
		at = max(to, at+1)
	}
	return nil
}

func (m *fileMap) close() { _ = unix.Munmap(m.data) } // nothing of it is in use any more
