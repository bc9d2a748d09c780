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
	line   line
	images imageCounts
}

func newShapes() shapes {
	return shapes{byName: map[string]shapeID{}, names: map[shapeID]string{}, line: newLine(), images: newImageCounts()}
}

func (s *shapes) set(id shapeID, name string) {
	if _, known := s.names[id]; !known {
		s.images.add(name, +1)
	}
	s.byName[name] = id
	s.names[id] = name
	s.last = max(s.last, id)
}

// load reads the shapes, and where each begins in the line. mend is asked for the
// name of a shape whose record is damaged; an empty one leaves the shape out.
func (s *shapes) load(tx *bolt.Tx, mend func(shapeID, error) (string, error)) error {
	c := tx.Bucket(bucketReady).Cursor()
	return tx.Bucket(bucketShapes).ForEach(func(k, v []byte) error {
		if len(k) != 4 {
			return &CorruptError{Bucket: string(bucketShapes), Key: bytes.Clone(k), Reason: "the key is not a shape's number"}
		}
		id := shapeID(binary.BigEndian.Uint32(k))
		body, err := open(bucketShapes, k, v, formatBytes)
		name := string(body)
		if err != nil {
			s.last = max(s.last, id)
			if name, err = mend(id, err); err != nil || name == "" {
				return err
			}
		}
		s.set(id, name)
		if first, ok := seekShape(c, id); ok {
			s.line.put(id, name, first)
		}
		return nil
	})
}

// seekShape finds where a shape begins in the line.
func seekShape(ready *bolt.Cursor, id shapeID) (spot, bool) {
	prefix := shapeKey(id)
	k, _ := ready.Seek(prefix)
	if !bytes.HasPrefix(k, prefix) {
		return spot{}, false
	}
	return keySpot(k), true
}

// mendShape finds the name of a shape by a task that has it.
func (q *Queue) mendShape(tx *bolt.Tx) func(shapeID, error) (string, error) {
	return func(id shapeID, err error) (string, error) {
		q.damaged(0, err)
		prefix := shapeKey(id)
		c := tx.Bucket(bucketReady).Cursor()
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			seq := keySpot(k).seq
			t, err := readBrief(tx, seq)
			if err == nil {
				return t.Spec.Shape(), nil
			}
			if !q.passOver(bucketReady, k, seq, err) {
				return "", err
			}
		}
		return "", nil
	}
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
	entered map[shapeID]struct{} // something of it entered the ready index
	left    map[shapeID]struct{} // something of it left
	first   map[shapeID]spot     // where those begin now
	removed map[shapeID]struct{}
}

func newShapeChanges() shapeChanges {
	return shapeChanges{
		added: map[string]shapeID{}, names: map[shapeID]string{},
		entered: map[shapeID]struct{}{}, left: map[shapeID]struct{}{},
		first: map[shapeID]spot{}, removed: map[shapeID]struct{}{},
	}
}

func (s *shapes) absorb(c shapeChanges) {
	for id, name := range c.names {
		s.set(id, name)
	}
	for id, first := range c.first {
		// Where nothing left, the head that was read is still the head.
		_, left := c.left[id]
		if f, ok := s.line.byShape[id]; !ok || left || f.first != first {
			s.line.put(id, s.names[id], first)
		}
	}
	for id := range c.removed {
		s.images.add(s.names[id], -1)
		delete(s.byName, s.names[id])
		delete(s.names, id)
		s.line.drop(id)
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

// settleShapes finds where the shapes begin that the batch has touched, and
// removes those of which it took the last task.
func (b *batch) settleShapes() error {
	ready := b.bucket(bucketReady).Cursor()
	for _, touched := range []map[shapeID]struct{}{b.shapes.entered, b.shapes.left} {
		for id := range touched {
			first, ok := seekShape(ready, id)
			if ok {
				b.shapes.first[id] = first
				continue
			}
			if err := b.bucket(bucketShapes).Delete(shapeKey(id)); err != nil {
				return err
			}
			b.shapes.removed[id] = struct{}{}
		}
	}
	return nil
}
