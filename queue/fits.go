package queue

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// fits says whether a record is whole and is what its bucket has. A checksum tells
// that a record is whole, and not of which bucket it is; a page that stands where
// another should, has records that are whole.
func fits(bucket, key, value []byte) bool {
	switch string(bucket) {
	case string(bucketSpecs), string(bucketStatus), string(bucketTombs), string(bucketEvents):
		return len(key) == 8 && fitsTask(bucket, key, value)
	case string(bucketPayloads), string(bucketResults):
		_, err := open(bucket, key, value, formatBytes)
		return len(key) == 8 && err == nil
	case string(bucketEnvs):
		var r queuepb.EnvRecord
		if openMessage(bucket, key, value, &r) != nil {
			return false
		}
		h := hashEnv(toStrings(r.Vars))
		return bytes.Equal(key, h[:])
	case string(bucketPaused):
		return openMessage(bucket, key, value, &queuepb.PauseRecord{}) == nil
	case string(bucketCounters):
		return openMessage(bucket, key, value, &queuepb.CountRecord{}) == nil
	default:
		return true // an index: it is not read for what it says alone
	}
}

func fitsTask(bucket, key, value []byte) bool {
	switch string(bucket) {
	case string(bucketSpecs):
		var r queuepb.SpecRecord
		return openMessage(bucket, key, value, &r) == nil && r.Id != "" && r.Class != "" && r.SubmittedAt != 0
	case string(bucketStatus):
		var r queuepb.StatusRecord
		return openMessage(bucket, key, value, &r) == nil && r.Attempt > 0 && r.State < 256 && slices.Contains(task.States, task.State(r.State))
	case string(bucketTombs):
		f, err := readFinal(key, value)
		return err == nil && f.ID != "" && f.Seq == keySeq(key) && slices.Contains(task.States, f.State) && f.State.Terminal()
	default:
		r, err := readEvent(key, value)
		return err == nil && fitsEvent(r)
	}
}

// fitsEvent says whether an event is one that the log may have: of a task, of a device that
// has failed, or an empty one that keeps its number.
func fitsEvent(r task.Record) bool {
	switch {
	case r.Seq != 0:
		return r.ID != "" && slices.Contains(task.EventKinds(), r.Kind)
	case r.Kind == task.EventGPUFailed:
		return r.ID != ""
	default:
		return r.Kind == 0
	}
}

// canonical says whether a record is written as this release writes it, down to the
// last byte: then it is hardly one of another kind.
func canonical(bucket, value []byte) bool {
	var m proto.Message
	switch string(bucket) {
	case string(bucketSpecs):
		m = &queuepb.SpecRecord{}
	case string(bucketStatus):
		m = &queuepb.StatusRecord{}
	case string(bucketTombs):
		m = &queuepb.FinalRecord{}
	case string(bucketEvents):
		m = &queuepb.EventRecord{}
	case string(bucketEnvs):
		m = &queuepb.EnvRecord{}
	default:
		return false
	}
	body := value[envelopeHead:]
	if proto.Unmarshal(body, m) != nil || len(m.ProtoReflect().GetUnknown()) > 0 {
		return false
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return err == nil && bytes.Equal(again, body)
}
