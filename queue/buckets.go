package queue

import (
	"encoding/binary"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// SchemaVersion is the version of everything below. A database with a higher
// one was written by a newer release and is not opened.
const SchemaVersion = 1

// The bucket tree. Numbers in keys are big-endian, so that the order of keys is
// the order of numbers; seq is 8 bytes. Values in <> are envelopes (envelope.go)
// around records of queuepb. The others belong to indexes: they can be rebuilt
// from the records and are checked against them, not by themselves.
//
//	meta        version | id | created | fence        plain, for any release to read
//
//	specs       seq                     <SpecRecord>   written once
//	payloads    seq                     <bytes>        payloads too long to sit in the spec
//	envs        hash(16)                <EnvRecord>    environments, shared by tasks
//	envrefs     hash(16)                uvarint        how many specs share it
//	status      seq                     <StatusRecord> absent = Pending, attempt 1, waits for nothing
//	results     seq                     <bytes>        what the task gave back
//	tombs       seq                     <FinalRecord>  what retention leaves of a task
//
//	ready       shape(4) order(8) seq   since, attempt Pending and free to be placed
//	shapes      shape(4)                <bytes>        the shapes that have something in ready
//	timers      due(8) seq              -              Pending until then
//	active      seq                     -              Assigned to Stopping
//	ended       endedAt(8) seq          state(1)       Succeeded, Failed, Cancelled, Lost
//	waits       dependency seq(8) seq   conditions(1)  Pending, and which end it waits for
//	releases    seq                     -              ended; its waits have still to be seen to
//	paused      class                   <PauseRecord>  the classes that start nothing
//	lists       class 0 phase(1) seq    -              every task; see listindex.go
//
//	events      index(8)                <EventRecord>  the log, without gaps
//	counters    class                   <CountRecord>  tasks by state
//	ids         see idindex.go
var (
	bucketMeta     = []byte("meta")
	bucketSpecs    = []byte("specs")
	bucketPayloads = []byte("payloads")
	bucketEnvs     = []byte("envs")
	bucketEnvRefs  = []byte("envrefs")
	bucketStatus   = []byte("status")
	bucketResults  = []byte("results")
	bucketTombs    = []byte("tombs")
	bucketReady    = []byte("ready")
	bucketShapes   = []byte("shapes")
	bucketTimers   = []byte("timers")
	bucketActive   = []byte("active")
	bucketEnded    = []byte("ended")
	bucketWaits    = []byte("waits")
	bucketReleases = []byte("releases")
	bucketLists    = []byte("lists")
	bucketPaused   = []byte("paused")
	bucketEvents   = []byte("events")
	bucketCounters = []byte("counters")
	bucketIDs      = []byte("ids")
)

var allBuckets = [][]byte{
	bucketMeta, bucketSpecs, bucketPayloads, bucketEnvs, bucketEnvRefs, bucketStatus, bucketResults, bucketTombs,
	bucketReady, bucketShapes, bucketTimers, bucketActive, bucketEnded, bucketWaits, bucketReleases, bucketLists,
	bucketPaused, bucketEvents, bucketCounters, bucketIDs,
}

// younger are the buckets that came after the schema's first release, which an old
// database need not have.
var younger = map[string]bool{string(bucketLists): true, string(bucketPaused): true}

// fill is how full bbolt makes the pages of a bucket when it splits one. Where
// keys only grow, nothing is ever put between two of them, and half-full pages
// (bbolt's default) would double the file and what a commit writes. A status
// grows in place as its task moves on, so its pages keep some room.
var fill = map[string]float64{
	string(bucketSpecs): 0.95, string(bucketPayloads): 0.95, string(bucketResults): 0.95, string(bucketTombs): 0.95,
	string(bucketEnded): 0.95, string(bucketEvents): 0.95, string(bucketReady): 0.95,
	string(bucketStatus): 0.75, string(bucketLists): 0.95,
}

func uint64Key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func seqKey(seq task.Seq) []byte { return uint64Key(uint64(seq)) }

// keySeq reads a key that is a number.
func keySeq(k []byte) task.Seq { return task.Seq(binary.BigEndian.Uint64(keyOf(k, 8))) }

// keyOf makes sure of the length of a key. Keys have no checksum, and one of another
// length is found nowhere where it is looked for: its page was damaged.
func keyOf(k []byte, length int) []byte {
	if len(k) != length {
		panic(fileError(fmt.Sprintf("an index has a key of %d bytes, where those have %d", len(k), length)))
	}
	return k
}

// instantKey orders negative instants before positive ones: the sign bit is
// flipped. A task of high priority has an Order from before 1970.
func instantKey(i task.Instant) uint64 { return uint64(i) ^ 1<<63 }

func keyInstant(k []byte) task.Instant { return task.Instant(binary.BigEndian.Uint64(k) ^ 1<<63) }

// keyTimeSeq reads a timeSeqKey.
func keyTimeSeq(k []byte) (task.Instant, task.Seq) {
	k = keyOf(k, 16)
	return keyInstant(k), keySeq(k[8:])
}

// timeSeqKey is the key of the buckets that are ordered by time.
func timeSeqKey(at task.Instant, seq task.Seq) []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, 16), instantKey(at))
	return binary.BigEndian.AppendUint64(k, uint64(seq))
}

// seqSeqKey is the key of a wait: what is waited for, and who waits.
func seqSeqKey(dep, seq task.Seq) []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(dep))
	return binary.BigEndian.AppendUint64(k, uint64(seq))
}

// keyWaiter reads who waits out of a seqSeqKey.
func keyWaiter(k []byte) task.Seq { return keySeq(keyOf(k, 16)[8:]) }

// shapeID stands for a shape in the keys of the ready index.
type shapeID uint32

func shapeKey(id shapeID) []byte { return binary.BigEndian.AppendUint32(nil, uint32(id)) }

const readyKeyLen = 4 + 8 + 8

func readyKey(id shapeID, order task.Instant, seq task.Seq) []byte {
	k := binary.BigEndian.AppendUint32(make([]byte, 0, readyKeyLen), uint32(id))
	k = binary.BigEndian.AppendUint64(k, instantKey(order))
	return binary.BigEndian.AppendUint64(k, uint64(seq))
}
