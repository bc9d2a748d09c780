package queue

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An envelope is what is stored of a record:
//
//	format(1) | crc32c of the body(4) | body
//
// bbolt checks its meta pages and nothing else, so that a page which a disk or a
// file system has damaged would be read as data.
const (
	formatProto  = 1 // the body is a message of queuepb
	formatBytes  = 2 // the body is the value itself
	envelopeHead = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CorruptError says which record cannot be read. The rest of the database is
// still good; a repair goes by bucket and key.
type CorruptError struct {
	Bucket string
	Key    []byte
	Reason string
}

// Error names the record.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("queue record %x of bucket %s is damaged: %s", e.Key, e.Bucket, e.Reason)
}

// Is makes errors.Is(err, task.ErrDamaged) true.
func (e *CorruptError) Is(target error) bool { return target == task.ErrDamaged }

// seal makes the envelope of a message.
func seal(m proto.Message) ([]byte, error) {
	buf := make([]byte, envelopeHead, envelopeHead+proto.Size(m))
	buf, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(buf, m) // the size is of a moment ago
	if err != nil {
		return nil, err
	}
	return finish(buf, formatProto), nil
}

// sealBytes makes the envelope of a value that has no further structure here.
func sealBytes(v []byte) []byte {
	return finish(append(make([]byte, envelopeHead, envelopeHead+len(v)), v...), formatBytes)
}

func finish(buf []byte, format byte) []byte {
	buf[0] = format
	binary.BigEndian.PutUint32(buf[1:], crc32.Checksum(buf[envelopeHead:], castagnoli))
	return buf
}

// open checks the envelope stored under a key and returns its body, which
// shares memory with it.
func open(bucket, key, v []byte, format byte) ([]byte, error) {
	corrupt := func(format string, args ...any) error {
		return &CorruptError{Bucket: string(bucket), Key: append([]byte(nil), key...), Reason: fmt.Sprintf(format, args...)}
	}
	if len(v) < envelopeHead {
		return nil, corrupt("it has %d bytes", len(v))
	}
	if v[0] != format {
		return nil, corrupt("its format is %d, not %d", v[0], format)
	}
	body := v[envelopeHead:]
	if want, got := binary.BigEndian.Uint32(v[1:]), crc32.Checksum(body, castagnoli); want != got {
		return nil, corrupt("its checksum is %08x and should be %08x", got, want)
	}
	return body, nil
}

// openMessage reads the message stored under a key. It copies what it keeps.
func openMessage(bucket, key, v []byte, m proto.Message) error {
	body, err := open(bucket, key, v, formatProto)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return &CorruptError{Bucket: string(bucket), Key: append([]byte(nil), key...), Reason: err.Error()}
	}
	return nil
}
