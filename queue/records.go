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
	rec, err := readSpecRecord(tx, seqKey(seq))
	if err != nil {
		return task.Task{}, err
	}
	return completeTask(tx, seq, rec)
}

// completeTask is readTask for a spec's record that was read already.
func completeTask(tx *bolt.Tx, seq task.Seq, rec *queuepb.SpecRecord) (t task.Task, err error) {
	k, spec := seqKey(seq), decodeSpec(rec)
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

// readStatus completes a task.
func readStatus(tx *bolt.Tx, seq task.Seq, spec *task.Spec) (task.Task, error) {
	s, stored, err := readStatusRecord(tx, seqKey(seq))
	switch {
	case err != nil:
		return task.Task{}, fmt.Errorf("task %s: %w", spec.ID, err)
	case !stored:
		return task.New(seq, spec, 0), nil
	default:
		return task.Restore(seq, spec, s), nil
	}
}

// readStatusRecord says with stored = false that nothing has happened to the task
// since it was submitted.
func readStatusRecord(tx *bolt.Tx, k []byte) (s task.Status, stored bool, err error) {
	v := tx.Bucket(bucketStatus).Get(k)
	if v == nil {
		return task.Status{}, false, nil
	}
	var rec queuepb.StatusRecord
	if err := openMessage(bucketStatus, k, v, &rec); err != nil {
		return task.Status{}, false, err
	}
	return decodeStatus(&rec), true, nil
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

// The fields of a SpecRecord and a StatusRecord that are read without the rest.
const (
	specFieldID      protowire.Number = 1
	specFieldClass   protowire.Number = 3
	statusFieldState protowire.Number = 1
)

// specID reads the id out of a spec's record without decoding the rest.
func specID(k, v []byte) (string, error) { return specText(k, v, specFieldID, "id") }

// specText reads one text out of a spec's record.
func specText(k, v []byte, field protowire.Number, what string) (string, error) {
	body, err := open(bucketSpecs, k, v, formatProto)
	if err != nil {
		return "", err
	}
	if raw, typ := findField(body, field); typ == protowire.BytesType {
		if s, n := protowire.ConsumeString(raw); n >= 0 {
			return s, nil
		}
	}
	return "", &CorruptError{Bucket: string(bucketSpecs), Key: append([]byte(nil), k...), Reason: "it has no " + what}
}

// readState reads how far a task has come, and nothing else about it.
func readState(tx *bolt.Tx, k []byte) (task.State, error) {
	v := tx.Bucket(bucketStatus).Get(k)
	if v == nil {
		return task.Pending, nil
	}
	body, err := open(bucketStatus, k, v, formatProto)
	if err != nil {
		return 0, err
	}
	if raw, typ := findField(body, statusFieldState); typ == protowire.VarintType {
		if n, m := protowire.ConsumeVarint(raw); m >= 0 {
			return task.State(n), nil
		}
	}
	return 0, &CorruptError{Bucket: string(bucketStatus), Key: append([]byte(nil), k...), Reason: "it has no state"}
}

// findField returns a message from the value of one of its fields on; typ is
// negative when there is none.
func findField(body []byte, field protowire.Number) (raw []byte, typ protowire.Type) {
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			break
		}
		if num == field {
			return body[n:], typ
		}
		m := protowire.ConsumeFieldValue(num, typ, body[n:])
		if m < 0 {
			break
		}
		body = body[n+m:]
	}
	return nil, -1
}
