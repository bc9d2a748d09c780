package queue

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// maxInlinePayload is the longest payload that sits in the spec's record. What
// is longer is stored apart, so that looking at the head of the line does not
// read megabytes.
const maxInlinePayload = 2 << 10

// readTask returns a task with all that belongs to it.
func readTask(tx *bolt.Tx, seq task.Seq) (task.Task, error) {
	k := seqKey(seq)
	rec, err := readSpecRecord(tx, k)
	if err != nil {
		return task.Task{}, err
	}
	spec := decodeSpec(rec)
	if len(rec.EnvHash) > 0 {
		if spec.Ambient, err = readEnv(tx, rec.EnvHash); err != nil {
			return task.Task{}, fmt.Errorf("task %s: %w", spec.ID, err)
		}
	}
	if rec.PayloadApart {
		v := tx.Bucket(bucketPayloads).Get(k)
		body, err := open(bucketPayloads, k, v, formatBytes)
		if err != nil {
			return task.Task{}, fmt.Errorf("task %s: %w", spec.ID, err)
		}
		spec.Payload = append([]byte(nil), body...)
	}
	return readStatus(tx, seq, spec)
}

// readSpecRecord returns an error that matches ErrNotFound if there is none.
func readSpecRecord(tx *bolt.Tx, k []byte) (*queuepb.SpecRecord, error) {
	v := tx.Bucket(bucketSpecs).Get(k)
	if v == nil {
		return nil, task.Errorf(task.CodeNotFound, "the queue has no task with number %d: %w", keySeq(k), ErrNotFound)
	}
	rec := new(queuepb.SpecRecord)
	return rec, openMessage(bucketSpecs, k, v, rec)
}

// readStatus completes a task. No status record means that nothing has happened
// to it since it was submitted.
func readStatus(tx *bolt.Tx, seq task.Seq, spec *task.Spec) (task.Task, error) {
	k := seqKey(seq)
	v := tx.Bucket(bucketStatus).Get(k)
	if v == nil {
		return task.New(seq, spec, 0), nil
	}
	var rec queuepb.StatusRecord
	if err := openMessage(bucketStatus, k, v, &rec); err != nil {
		return task.Task{}, fmt.Errorf("task %s: %w", spec.ID, err)
	}
	return task.Restore(seq, spec, decodeStatus(&rec)), nil
}

// readBrief returns a task without its environment and without a payload that
// is stored apart: enough for its state and its place.
func readBrief(tx *bolt.Tx, seq task.Seq) (task.Task, error) {
	rec, err := readSpecRecord(tx, seqKey(seq))
	if err != nil {
		return task.Task{}, err
	}
	return readStatus(tx, seq, decodeSpec(rec))
}

func readFinal(k, v []byte) (task.Final, error) {
	var rec queuepb.FinalRecord
	if err := openMessage(bucketTombs, k, v, &rec); err != nil {
		return task.Final{}, err
	}
	return decodeFinal(&rec), nil
}

func tombID(k, v []byte) (string, error) {
	f, err := readFinal(k, v)
	return f.ID, err
}

// specID reads the id out of a spec's record without decoding the rest.
func specID(k, v []byte) (string, error) {
	body, err := open(bucketSpecs, k, v, formatProto)
	if err != nil {
		return "", err
	}
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			break
		}
		if num == 1 && typ == protowire.BytesType {
			if id, m := protowire.ConsumeString(body[n:]); m >= 0 {
				return id, nil
			}
			break
		}
		m := protowire.ConsumeFieldValue(num, typ, body[n:])
		if m < 0 {
			break
		}
		body = body[n+m:]
	}
	return "", &CorruptError{Bucket: string(bucketSpecs), Key: append([]byte(nil), k...), Reason: "it has no id"}
}
