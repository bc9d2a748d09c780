package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A copy of a database that is in use has to be of one moment. bbolt can write one
// within a read transaction, but that lasts as long as the writing: to a slow disk or
// over a network, minutes in which no page is used again and no commit can outgrow
// the map. So the file is copied first, without a transaction and while it changes,
// and a sum of each page is kept. Then, within a transaction, the pages are read once
// more, and those that differ are taken into memory; they are written after it. A
// transaction lasts as long as reading the file does, whoever is written to.

const (
	copyChunk = 1 << 20
	// maxChanged bounds what is taken into memory within the transaction. If more has
	// changed, that is written and another look is taken.
	maxChanged = 32 << 20
	copyLooks  = 8
)

// Copied is a copy of the queue's database.
type Copied struct {
	QueueID string
	Bytes   int64
	Pinned  int64 // bytes that were read within the transaction
}

// errChangesFaster is for a queue of which no look found so little changed that it
// could be kept.
var errChangesFaster = task.Errorf(task.CodeUnavailable, "the queue changes faster than it can be copied; try again when less is going on")

// CopyTo copies the database as it is at one moment, while it is in use. It calls write
// with pieces of the file and where they belong, in no order, some of them more than
// once; a piece is only valid during the call. The copy is not complete before CopyTo
// returns. What write does holds up nobody but its caller.
func (q *Queue) CopyTo(ctx context.Context, write func(offset int64, piece []byte) error, progress Progress) (Copied, error) {
	c := &copier{ctx: ctx, q: q, write: write, tell: progress, seed: maphash.MakeSeed(), room: make([]byte, copyChunk)}
	if err := q.guard(c.first); err != nil {
		return Copied{}, err
	}
	for range copyLooks {
		done, err := c.look()
		if err != nil {
			return Copied{}, err
		}
		if err := c.writeChanged(); err != nil {
			return Copied{}, err
		}
		if done {
			err := c.writeMeta()
			return Copied{QueueID: q.id, Bytes: int64(c.at.high) * int64(c.page), Pinned: c.pinned}, err
		}
	}
	return Copied{}, errChangesFaster
}

// copier makes one copy.
type copier struct {
	ctx   context.Context
	q     *Queue
	write func(offset int64, piece []byte) error
	tell  Progress
	seed  maphash.Seed
	room  []byte

	page    int
	sums    []uint64 // of the pages that were written, by number
	at      meta     // the state that is copied
	changed []piece
	pinned  int64
}

// piece is a page that has changed.
type piece struct {
	page uint64
	data []byte
}

// first copies the file as it happens to be.
func (c *copier) first() error {
	m, open := c.q.meta.newest(0)
	if !open {
		return errClosed()
	}
	c.page = m.page
	return c.each(m.high, func(id uint64, chunk []byte) error {
		for at := 0; at < len(chunk); at += c.page {
			c.note(id+uint64(at/c.page), chunk[at:at+c.page])
		}
		c.tell.tell("copying", int64(id)*int64(c.page), int64(m.high)*int64(c.page))
		return c.write(int64(id)*int64(c.page), chunk)
	})
}

// each reads the pages behind the meta pages, many at a time.
func (c *copier) each(high uint64, visit func(id uint64, chunk []byte) error) error {
	pages := uint64(max(1, len(c.room)/c.page))
	for id := uint64(2); id < high; id += pages {
		n := min(pages, high-id) * uint64(c.page)
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if _, err := c.q.file.ReadAt(c.room[:n], int64(id)*int64(c.page)); err != nil {
			return fmt.Errorf("read %s: %w", c.q.path, err)
		}
		if err := visit(id, c.room[:n]); err != nil {
			return err
		}
	}
	return nil
}

// note keeps the sum of a page, and says whether it is another one than before.
func (c *copier) note(id uint64, page []byte) (changed bool) {
	for uint64(len(c.sums)) <= id {
		c.sums = append(c.sums, 0)
	}
	sum := maphash.Bytes(c.seed, page)
	changed = c.sums[id] != sum
	c.sums[id] = sum
	return changed
}

// errEnoughChanged ends a look that has found too much.
var errEnoughChanged = errors.New("more has changed than is kept in memory")

// look takes what has changed since, within a transaction. done says that this was all.
func (c *copier) look() (done bool, err error) {
	c.changed, c.pinned = nil, 0
	kept := 0
	err = c.q.view(func(tx *bolt.Tx) error {
		m, ok := c.stateOf(tx)
		if !ok {
			return errEnoughChanged // two commits came in between
		}
		c.at = m
		return c.each(m.high, func(id uint64, chunk []byte) error {
			c.pinned += int64(len(chunk))
			for at := 0; at < len(chunk); at += c.page {
				n, page := id+uint64(at/c.page), chunk[at:at+c.page]
				if !c.note(n, page) {
					continue
				}
				c.changed = append(c.changed, piece{n, bytes.Clone(page)})
				kept += c.page
			}
			if kept > maxChanged {
				return errEnoughChanged
			}
			return nil
		})
	})
	if errors.Is(err, errEnoughChanged) {
		return false, nil
	}
	return err == nil, err
}

// stateOf returns the meta page that a transaction goes by. It is overwritten by the
// commit after the next.
func (c *copier) stateOf(tx *bolt.Tx) (meta, bool) {
	return c.q.meta.of(uint64(tx.ID()))
}

// of returns the meta page of a transaction that has been committed.
func (p *metaPages) of(tx uint64) (meta, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.data == nil {
		return meta{}, false
	}
	for _, at := range []int{0, p.page} {
		if m, ok := parseMeta(bytes.Clone(p.data[at : at+pageHead+metaSize])); ok && m.tx == tx {
			return m, true
		}
	}
	return meta{}, false
}

func (c *copier) writeChanged() error {
	for _, p := range c.changed {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.write(int64(p.page)*int64(c.page), p.data); err != nil {
			return err
		}
	}
	c.changed = nil
	return nil
}

// writeMeta writes both meta pages for the one state, as if the commit had been made
// twice: bbolt goes on from the newer, and from the other if that is damaged.
func (c *copier) writeMeta() error {
	pages := make([]byte, 2*c.page)
	newer := c.at.tx % 2
	for i, tx := range map[uint64]uint64{newer: c.at.tx, 1 - newer: c.at.tx - 1} {
		c.at.encode(pages[i*uint64(c.page):], i, tx)
	}
	return c.write(0, pages)
}

// encode writes a meta page.
func (m meta) encode(b []byte, id, tx uint64) {
	native.PutUint64(b, id)
	native.PutUint16(b[8:], flagMeta)
	b = b[pageHead : pageHead+metaSize]
	native.PutUint32(b, metaMagic)
	native.PutUint32(b[4:], metaFormat)
	native.PutUint32(b[8:], uint32(m.page))
	native.PutUint64(b[16:], m.root)
	native.PutUint64(b[24:], m.sequence)
	native.PutUint64(b[32:], m.freelist)
	native.PutUint64(b[40:], m.high)
	native.PutUint64(b[48:], tx)
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash never fails
	native.PutUint64(b[56:], sum.Sum64())
}
