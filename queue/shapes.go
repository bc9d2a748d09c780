package queue

import (
	"bytes"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"
)

// shapes are the shapes of the tasks in the ready index, each with the short
// number that its keys begin with. A shape is in the bucket exactly while
// something of it is ready, so that looking for heads visits no shape in vain
// and a hundred thousand different images do not stay for ever.
//
// While a queue is open a number is not given to a second shape, so that a
// reader who took the table before a commit does not take one for the other.
type shapes struct {
	byName map[string]shapeID
	names  map[shapeID]string
	last   shapeID
}

func newShapes() shapes { return shapes{byName: map[string]shapeID{}, names: map[shapeID]string{}} }

func (s *shapes) set(id shapeID, name string) {
	s.byName[name] = id
	s.names[id] = name
	s.last = max(s.last, id)
}

func (s *shapes) load(tx *bolt.Tx) error {
	return tx.Bucket(bucketShapes).ForEach(func(k, v []byte) error {
		name, err := open(bucketShapes, k, v, formatBytes)
		if err != nil {
			return err
		}
		if len(k) != 4 {
			return &CorruptError{Bucket: string(bucketShapes), Key: bytes.Clone(k), Reason: "the key is not a shape's number"}
		}
		s.set(shapeID(binary.BigEndian.Uint32(k)), string(name))
		return nil
	})
}

// next finds a number that no shape has. It wraps around after four thousand
// million shapes, by when the low ones are free again.
func (s *shapes) next(added map[shapeID]string) shapeID {
	id := s.last + shapeID(len(added)) + 1
	for {
		if _, used := s.names[id]; !used && id != 0 {
			if _, used := added[id]; !used {
				return id
			}
		}
		id++
	}
}

// shapeChanges are what a batch does to the shapes.
type shapeChanges struct {
	added   map[string]shapeID
	names   map[shapeID]string
	left    map[shapeID]struct{} // something of it left the ready index
	removed map[shapeID]struct{}
}

func newShapeChanges() shapeChanges {
	return shapeChanges{
		added: map[string]shapeID{}, names: map[shapeID]string{},
		left: map[shapeID]struct{}{}, removed: map[shapeID]struct{}{},
	}
}

func (s *shapes) absorb(c shapeChanges) {
	for id, name := range c.names {
		s.set(id, name)
	}
	for id := range c.removed {
		delete(s.byName, s.names[id])
		delete(s.names, id)
	}
}

// shape returns the number of a shape, and gives it one if it has none.
func (b *batch) shape(name string) (shapeID, error) {
	if id, ok := b.knownShape(name); ok {
		return id, nil
	}
	id := b.q.mem.shapes.next(b.shapes.names)
	if err := b.bucket(bucketShapes).Put(shapeKey(id), sealBytes([]byte(name))); err != nil {
		return 0, err
	}
	b.shapes.added[name] = id
	b.shapes.names[id] = name
	return id, nil
}

func (b *batch) knownShape(name string) (shapeID, bool) {
	if id, ok := b.q.mem.shapes.byName[name]; ok {
		return id, true
	}
	id, ok := b.shapes.added[name]
	return id, ok
}

// forgetShapes removes the shapes of which the batch took the last task.
func (b *batch) forgetShapes() error {
	ready := b.bucket(bucketReady).Cursor()
	for id := range b.shapes.left {
		prefix := shapeKey(id)
		if k, _ := ready.Seek(prefix); bytes.HasPrefix(k, prefix) {
			continue
		}
		if err := b.bucket(bucketShapes).Delete(prefix); err != nil {
			return err
		}
		b.shapes.removed[id] = struct{}{}
	}
	return nil
}
