package queue

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The keys of bucket meta. Their values stay readable for every release, past
// and future: numbers are uvarints, the id is text.
var (
	metaVersion = []byte("version")
	metaID      = []byte("id")
	metaCreated = []byte("created")
	metaFence   = []byte("fence")
)

// idBytes is the length of the queue's id, which is stored as hexadecimal digits.
const idBytes = 8

// checkVersion refuses a database that this release cannot read. A database
// without the bucket is new, if there was none before.
func (q *Queue) checkVersion(tx *bolt.Tx) (fresh bool, err error) {
	b := tx.Bucket(bucketMeta)
	if b == nil && q.known {
		return false, q.fail("there was a queue in it, and now it has none")
	}
	if b == nil {
		return true, nil
	}
	switch v := metaNumber(b, metaVersion); {
	case v == 0:
		return false, task.Errorf(task.CodeInternal, "%s has no schema version; it is not a queue database", q.path)
	case v > SchemaVersion:
		return false, task.Errorf(task.CodeUnsupported, "%s has schema version %d, and this release reads up to %d; use the newer release that wrote it, or another queue directory", q.path, v, SchemaVersion)
	default:
		return false, q.checkBuckets(tx)
	}
}

// checkBuckets looks whether all of the database is there.
func (q *Queue) checkBuckets(tx *bolt.Tx) error {
	for _, name := range allBuckets {
		if tx.Bucket(name) == nil && !younger[string(name)] {
			return q.fail(fmt.Sprintf("bucket %s is missing", name))
		}
	}
	if id, err := hex.DecodeString(queueID(tx)); err != nil || len(id) != idBytes {
		return q.fail(fmt.Sprintf("the queue's id is %q", queueID(tx)))
	}
	return nil
}

// create lays out a new database.
func create(tx *bolt.Tx, now task.Instant) error {
	for _, name := range allBuckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	var id [idBytes]byte
	_, _ = rand.Read(id[:]) // never fails; it ends the program instead
	b := tx.Bucket(bucketMeta)
	if err := b.Put(metaID, []byte(hex.EncodeToString(id[:]))); err != nil {
		return err
	}
	if err := putMetaNumber(b, metaVersion, SchemaVersion); err != nil {
		return err
	}
	return putMetaNumber(b, metaCreated, uint64(now))
}

func queueID(tx *bolt.Tx) string { return string(tx.Bucket(bucketMeta).Get(metaID)) }

// nextFence counts an opening. Whatever carries a lower number was sent by an
// earlier owner, such as the one that owner.json told of.
func nextFence(tx *bolt.Tx, before uint64) (uint64, error) {
	b := tx.Bucket(bucketMeta)
	n := max(metaNumber(b, metaFence), before) + 1
	return n, putMetaNumber(b, metaFence, n)
}

func metaNumber(b *bolt.Bucket, key []byte) uint64 {
	n, _ := binary.Uvarint(b.Get(key)) // 0 when absent
	return n
}

func putMetaNumber(b *bolt.Bucket, key []byte, n uint64) error {
	return b.Put(key, binary.AppendUvarint(nil, n))
}
