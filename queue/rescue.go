package queue

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// rescuer decides what becomes of what was salvaged. What is certain goes on as it
// was. A task that may have run, and of which nobody can tell, is held: it runs again
// only when somebody says so. What is lost is named.
type rescuer struct {
	s        *salvaged
	now      task.Instant
	by       string // who does it, for the event log
	findings []Finding

	id      string // of the queue; "" = it is lost
	fence   uint64 // of the latest owner of whom anything tells
	created uint64
	listed  bool     // the list index can be believed
	highest task.Seq // of the tasks that were met
	lastSeq task.Seq // the highest number that may have been given out
	first   uint64   // of the event log; 0 = it is empty
	last    uint64
	// lost are tasks of which what was asked for is lost, with what is known of their ends;
	// State 0 = of none.
	lost     map[task.Seq]task.Final
	doubtful map[task.Seq]*trace // tasks whose state cannot be told
	// holdAll says why every unfinished task is held; "" = it is not.
	holdAll string
	// held counts the tasks that are held in what was rebuilt, those included that wait
	// for others, too.
	held int
}

// trace is what the event log knows about a task whose own records do not tell.
type trace struct {
	id      string
	last    task.Record // the last of its events; Kind 0 = there is none
	started bool        // it was placed at some time
}

func newRescuer(s *salvaged, now task.Instant, by string) *rescuer {
	return &rescuer{s: s, now: now, by: by, lost: map[task.Seq]task.Final{}, doubtful: map[task.Seq]*trace{}}
}

func (r *rescuer) found(kind FindingKind, seq task.Seq, id, format string, args ...any) {
	r.findings = append(r.findings, Finding{Kind: kind, Seq: seq, ID: id, Text: fmt.Sprintf(format, args...)})
}

// look finds out what is missing. It changes nothing.
func (r *rescuer) look() error {
	for _, n := range r.s.notes {
		r.found(FoundFile, 0, "", "%s", n)
	}
	if len(r.s.pile(bucketSpecs).items)+len(r.s.pile(bucketTombs).items)+len(r.s.pile(bucketEvents).items) == 0 && !r.s.pile(bucketSpecs).head {
		return ErrNothingLeft
	}
	if err := r.lookMeta(); err != nil {
		return err
	}
	r.lookNumbers()
	r.lookStates()
	r.lookLost()
	r.readTraces()
	if err := r.nameLost(); err != nil {
		return err
	}
	r.nameUnknown()
	r.lookParts()
	r.lookTombs()
	r.lookEvents()
	r.lookPaused()
	return nil
}

// lookMeta finds out which queue it was.
func (r *rescuer) lookMeta() error {
	m := r.s.pile(bucketMeta)
	number := func(key []byte) uint64 { n, _ := binary.Uvarint(m.get(key)); return n }
	if v := number(metaVersion); v > SchemaVersion {
		return task.Errorf(task.CodeUnsupported, "the database has schema version %d, and this release reads up to %d; use the newer release that wrote it", v, SchemaVersion)
	}
	r.id, r.fence, r.created = string(m.get(metaID)), number(metaFence), number(metaCreated)
	if raw, err := hex.DecodeString(r.id); err != nil || len(raw) != idBytes {
		r.id = ""
		r.found(FoundIdentity, 0, "", "the queue's own id is lost, so that running work can not be recognised as its own")
		r.holdAll = "the queue's own id was lost with its damaged database: it may run, or have run, already"
	}
	lists := r.s.pile(bucketLists)
	r.fence = max(r.fence, lists.seq)
	r.listed = lists.whole() && lists.seq == number(metaFence)
	if !r.s.exact && r.holdAll == "" {
		r.holdAll = "the newest state of the damaged database was lost: it may run, or have run, already"
	}
	return nil
}

// beyond is how many numbers are left out where the highest that was given out is
// not known: none may be given out twice.
const beyond = 1000

func (r *rescuer) lookNumbers() {
	specs, events := r.s.pile(bucketSpecs), r.s.pile(bucketEvents)
	r.lastSeq = task.Seq(specs.seq)
	for _, name := range [][]byte{bucketSpecs, bucketStatus, bucketTombs} {
		if p := r.s.pile(name); len(p.items) > 0 {
			r.lastSeq = max(r.lastSeq, keySeq(p.items[len(p.items)-1].key))
		}
	}
	for _, e := range events.items {
		if ev, err := readEvent(e.key, e.value); err == nil {
			r.lastSeq, r.fence = max(r.lastSeq, ev.Seq), max(r.fence, ev.Fence)
		}
	}
	r.highest = r.lastSeq
	if !specs.head || !r.s.exact {
		r.lastSeq += beyond
	}
}

// lookStates finds the tasks whose state cannot be told.
func (r *rescuer) lookStates() {
	status := r.s.pile(bucketStatus)
	for _, e := range r.s.pile(bucketSpecs).items {
		seq := keySeq(e.key)
		state, sure := task.Pending, !status.gone(e.key)
		if v := status.get(e.key); v != nil {
			var rec queuepb.StatusRecord
			if openMessage(bucketStatus, e.key, v, &rec) == nil {
				state, sure = task.State(rec.State), true
			}
		}
		if sure && r.listed {
			class, err := specText(e.key, e.value, specFieldClass, "class")
			sure = err == nil && r.s.pile(bucketLists).has(listKey(class, phase(state), seq))
		}
		if !sure {
			r.doubtful[seq] = &trace{}
		}
	}
}

// keyNumber reads the number at the end of a key; 0 where there is none.
func keyNumber(k []byte) task.Seq {
	if len(k) < 8 {
		return 0
	}
	return task.Seq(binary.BigEndian.Uint64(k[len(k)-8:]))
}

// readTraces reads what the event log says about lost and doubtful tasks.
func (r *rescuer) readTraces() {
	if len(r.lost)+len(r.doubtful) == 0 {
		return
	}
	for _, e := range r.s.pile(bucketEvents).items {
		ev, err := readEvent(e.key, e.value)
		if err != nil || ev.Kind == 0 {
			continue
		}
		if f, ok := r.lost[ev.Seq]; ok {
			f.ID = ev.ID
			if ev.To.Terminal() && !ev.Again {
				f.State, f.EndedAt = ev.To, ev.At
			} else {
				f.State, f.EndedAt = 0, 0 // it goes on
			}
			r.lost[ev.Seq] = f
		}
		if t := r.doubtful[ev.Seq]; t != nil {
			t.id, t.last = ev.ID, ev
			t.started = t.started || ev.Kind == task.EventPlaced
		}
	}
}

// nameUnknown tells of tasks of which nobody knows whether there were any.
func (r *rescuer) nameUnknown() {
	if !r.s.pile(bucketSpecs).head || !r.s.exact {
		r.findings = append(r.findings, Finding{Kind: FoundTask, Seq: r.highest + 1, Above: true, Text: "if there were any, they are lost"})
	}
}

// numbers returns the first and the last number that may be within a range of keys.
func (r *rescuer) numbers(k keyRange, highest uint64) (from, to uint64) {
	from, to = 1, highest
	if len(k.first) == 8 {
		from = max(from, binary.BigEndian.Uint64(k.first))
	}
	if len(k.end) == 8 {
		to = min(to, binary.BigEndian.Uint64(k.end)-1)
	}
	return from, to
}

// lookParts finds tasks that are there, but for something that belongs to them.
func (r *rescuer) lookParts() {
	results := r.s.pile(bucketResults)
	for _, e := range r.s.pile(bucketSpecs).items {
		seq := keySeq(e.key)
		id, _ := specID(e.key, e.value)
		var rec queuepb.SpecRecord
		if openMessage(bucketSpecs, e.key, e.value, &rec) != nil {
			continue // fits has looked
		}
		if t := r.doubtful[seq]; t != nil {
			r.found(FoundState, seq, id, "how far it has come cannot be told%s", t.says())
		}
		if rec.PayloadApart && r.s.pile(bucketPayloads).get(e.key) == nil {
			r.found(FoundPayload, seq, id, "its payload is lost")
		}
		if len(rec.EnvHash) > 0 && r.s.pile(bucketEnvs).get(rec.EnvHash) == nil {
			r.found(FoundEnvironment, seq, id, "its environment is lost")
		}
		if results.gone(e.key) && results.get(e.key) == nil && (results.bad[string(e.key)] || r.mayHaveResult(e.key)) {
			r.found(FoundResult, seq, id, "its result, if it had one, is lost")
		}
	}
}

// says is the end of a sentence.
func (t *trace) says() string {
	if t.last.Kind == 0 {
		return ""
	}
	return fmt.Sprintf("; the event log last says of its attempt %d: %s", t.last.Attempt, t.last.Kind)
}

func (r *rescuer) mayHaveResult(key []byte) bool {
	if r.doubtful[keySeq(key)] != nil {
		return false // it has been told of, as one of which little is known
	}
	var rec queuepb.StatusRecord
	v := r.s.pile(bucketStatus).get(key)
	return v != nil && openMessage(bucketStatus, key, v, &rec) == nil && task.State(rec.State).Terminal()
}

func (r *rescuer) lookTombs() {
	tombs := r.s.pile(bucketTombs)
	for _, k := range slices.Sorted(maps.Keys(tombs.bad)) {
		r.found(FoundTombstone, keyNumber([]byte(k)), "", "what was kept of it after its removal is lost; its id would be accepted again")
	}
	if len(tombs.lost) > 0 {
		r.found(FoundTombstone, 0, "", "what was kept of some removed tasks is lost; their ids would be accepted again")
	}
}

func (r *rescuer) lookPaused() {
	p := r.s.pile(bucketPaused)
	for _, k := range slices.Sorted(maps.Keys(p.bad)) {
		r.found(FoundPause, 0, "", "why class %q is paused is lost; it stays paused", k)
	}
	if len(p.lost) > 0 {
		r.found(FoundPause, 0, "", "which classes were paused is lost in part; pause again what has to be")
	}
}

// holdings counts what is there.
func (r *rescuer) holdings() Holdings {
	h := Holdings{
		QueueID: r.id, Tasks: len(r.s.pile(bucketSpecs).items), Tombstones: len(r.s.pile(bucketTombs).items),
		Events: len(r.s.pile(bucketEvents).items),
	}
	h.Unfinished = h.Tasks
	for _, e := range r.s.pile(bucketStatus).items {
		var rec queuepb.StatusRecord
		if r.s.pile(bucketSpecs).has(e.key) && openMessage(bucketStatus, e.key, e.value, &rec) == nil && task.State(rec.State).Terminal() {
			h.Unfinished--
		}
	}
	return h
}

// env returns the variables of an environment.
func (r *rescuer) env(hash []byte) ([]string, bool) {
	v := r.s.pile(bucketEnvs).get(hash)
	var rec queuepb.EnvRecord
	if v == nil || openMessage(bucketEnvs, hash, v, &rec) != nil {
		return nil, false
	}
	return toStrings(rec.Vars), true
}

// blob returns the value of a record that has no further structure.
func (r *rescuer) blob(bucket, key []byte) ([]byte, bool) {
	v := r.s.pile(bucket).get(key)
	if v == nil {
		return nil, false
	}
	body, err := open(bucket, key, v, formatBytes)
	return bytes.Clone(body), err == nil
}
