package queue

import (
	"bytes"
)

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
