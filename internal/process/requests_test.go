package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A request is a file with just one name. Nothing else is one, nor is what somebody else
// has put there.
func TestRequests(t *testing.T) {
	dir := t.TempDir()
	ref := task.Ref{Seq: 1 << 60, Attempt: 12}
	want := map[request]bool{}
	for _, r := range []request{{what: askStop, ref: ref}, {what: askForget, ref: ref}, {what: askRecall, ref: ref, fence: 1 << 63}} {
		must(t, r.put(dir))
		must(t, r.put(dir))
		want[r] = true
	}
	in := filepath.Join(dir, requestsDir)
	for _, name := range []string{"stop-01-1", "stop-1", "stop-1-1-1", "recall-1-1", "stop-1-1.new", "kill-1-1", "stop-99999999999999999999-1"} {
		must(t, os.WriteFile(filepath.Join(in, name), nil, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(in, "stop-2-1"), 0o700))
	must(t, os.Symlink(filepath.Join(in, "stop-01-1"), filepath.Join(in, "stop-3-1")))
	if os.Getuid() == 0 {
		path := filepath.Join(in, "stop-4-1")
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chown(path, 12345, -1))
	}
	got := requestsIn(dir)
	for _, r := range got {
		if !want[r] {
			t.Errorf("%+v is taken for a request", r)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if (request{what: askStop, ref: ref}).put(filepath.Join(dir, "none")) == nil {
		t.Error("a spool that is not there was asked")
	}
}

// FuzzRequestName: a name is refused, or is that of the request that it is read as.
func FuzzRequestName(f *testing.F) {
	f.Add("stop-1-1")
	f.Add("recall-18446744073709551615-999999999-18446744073709551615")
	f.Add("forget-1--1")
	f.Fuzz(func(t *testing.T, name string) {
		if r, ok := parseRequest(name); ok && (r.name() != name || r.ref.Attempt < 0) {
			t.Fatalf("%q is read as %+v", name, r)
		}
	})
}

func recallSupervisor(t *testing.T) (*supervisor, *queue) {
	t.Helper()
	s := &supervisor{
		log: discard(), where: host.Identity{Boot: "boot", Name: "n"}, queues: map[string]*queue{}, crew: map[*runner]struct{}{},
		keeper: newWaker(), ender: newWaker(), oom: &oomCounter{}, leaving: true, // nothing begins
	}
	s.work.L = &s.mu
	return s, testQueue(t, s, "q")
}

func startsOf(fence uint64, seqs ...uint64) *supervisorpb.StartBatch {
	b := &supervisorpb.StartBatch{Fence: fence, Environments: []*supervisorpb.Environment{{}}}
	for _, seq := range seqs {
		b.Starts = append(b.Starts, &supervisorpb.Start{Name: name(seq), Argv: [][]byte{[]byte("true")}})
	}
	return b
}

// An attempt that has not begun is given back to the owner on another host that asks for
// it, and begins here only if an owner after that one hands it over. One that was
// claimed, or has ended, stays what it is. It is so after a restart, too, and after the
// journal was made small.
func TestRecall(t *testing.T) {
	s, q := recallSupervisor(t)
	s.start(q, startsOf(3, 1))
	s.start(q, startsOf(3, 2))
	claimedOne := q.attempts[attemptOne(2)]
	q.poolOf("").remove(claimedOne)
	claimedOne.phase = claimed
	q.forgotten.add(attemptOne(4))
	for seq := task.Seq(1); seq <= 4; seq++ {
		must(t, request{what: askRecall, ref: attemptOne(seq), fence: 5}.put(q.journal.dir))
	}
	s.heedRequests(q)
	if left := requestsIn(q.journal.dir); len(left) > 0 {
		t.Errorf("still asked for: %v", left)
	}
	check := func(q *queue) {
		t.Helper()
		for seq, want := range map[task.Seq]bool{1: true, 3: true} {
			if a := q.attempts[attemptOne(seq)]; a == nil || a.recalled() != want || !a.settled {
				t.Errorf("task %d: %+v", seq, a)
			}
		}
		if q.attempts[attemptOne(4)] != nil {
			t.Error("what had been forgotten is known again")
		}
	}
	check(q)
	if claimedOne.phase != claimed {
		t.Errorf("what was claimed is in phase %d", claimedOne.phase)
	}
	q.rewrite = true
	s.flush(q, false)
	reader := &foreignSpool{dir: q.journal.dir}
	must(t, reader.look(time.Now()))
	for _, seq := range []task.Seq{1, 3} {
		if f := reader.facts[attemptOne(seq)]; !f.refused() || f.begun() || f.end.GetRecalledBy() != 5 {
			t.Errorf("who reads the journal sees of task %d: %+v", seq, f)
		}
	}
	again := &queue{id: "q", journal: q.journal, attempts: map[task.Ref]*attempt{}, clerk: newWaker()}
	recs := journalRecords(t, q.journal.dir)
	for _, r := range recs {
		s.replay(again, r)
	}
	check(again)

	s.start(q, startsOf(5, 1, 3)) // of the owner that recalled it, or before
	check(q)
	s.start(q, startsOf(4, 9))
	if q.attempts[attemptOne(9)] != nil {
		t.Error("a start of an owner was taken who was followed by another")
	}
	s.forget(q, &supervisorpb.ForgetBatch{Names: []*supervisorpb.Name{name(3)}})
	s.start(q, startsOf(6, 1, 3))
	if a := q.attempts[attemptOne(3)]; a == nil || a.phase != queued {
		t.Errorf("what was forgotten without having begun does not come back: %+v", a)
	}
	if a := q.attempts[attemptOne(1)]; a == nil || a.phase != queued || a.recalled() {
		t.Errorf("what came back: %+v", a)
	}
}

// A supervisor that has answered one owner answers the next.
func TestRecalledTwice(t *testing.T) {
	s, q := recallSupervisor(t)
	for _, fence := range []uint64{5, 7, 6} {
		must(t, request{what: askRecall, ref: attemptOne(1), fence: fence}.put(q.journal.dir))
		s.heedRequests(q)
	}
	reader := &foreignSpool{dir: q.journal.dir}
	must(t, reader.look(time.Now()))
	if f := reader.facts[attemptOne(1)]; f.end.GetRecalledBy() != 7 {
		t.Errorf("%+v", f)
	}
}

func journalRecords(t *testing.T, dir string) []*supervisorpb.JournalRecord {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, journalName))
	must(t, err)
	defer f.Close()
	recs, _, err := readRecords(f)
	must(t, err)
	return recs
}
