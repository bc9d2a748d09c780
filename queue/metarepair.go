package queue

import "bytes"

// mendMeta returns what a meta page was before one of its bits was flipped: the only
// bit with which its checksum agrees. ok is false where there is none.
func mendMeta(b []byte) (m meta, ok bool) {
	if len(b) < pageHead+metaSize {
		return meta{}, false
	}
	b = bytes.Clone(b[:pageHead+metaSize])
	for bit := range metaSize * 8 {
		at, mask := pageHead+bit/8, byte(1)<<(bit%8)
		b[at] ^= mask
		if m, ok := parseMeta(b); ok {
			return m, true
		}
		b[at] ^= mask
	}
	return meta{}, false
}

// bestMeta returns the newest meta page, those with a single wrong bit included.
// found is how many of the two could be read, mended how many of those have one.
func bestMeta(data []byte, page int) (m meta, found, mended int) {
	for _, at := range []int{0, page} {
		if at > len(data) {
			continue
		}
		one, ok := parseMeta(data[at:])
		if !ok {
			if one, ok = mendMeta(data[at:]); ok {
				mended++
			}
		}
		if !ok || one.page != page {
			continue
		}
		if found++; found == 1 || one.tx > m.tx {
			m = one
		}
	}
	return m, found, mended
}
