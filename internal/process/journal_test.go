package process

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

func name(seq uint64) *supervisorpb.Name { return &supervisorpb.Name{Seq: seq, Attempt: 1} }

func reopen(t *testing.T, dir string) (*journal, []*supervisorpb.JournalRecord) {
	t.Helper()
	j, recs, err := openJournal(dir, "boot")
	must(t, err)
	t.Cleanup(func() { _ = j.close() })
	return j, recs
}

// commit writes what was added. After an error it is still there to be written.
func (j *journal) commit() error {
	b := j.take()
	err := j.append(b)
	if err != nil {
		j.giveBack(b)
	}
	return err
}

func TestJournalKeepsWhatWasCommitted(t *testing.T) {
	dir := t.TempDir()
	j, recs := reopen(t, dir)
	if len(recs) != 0 {
		t.Fatal("a new journal has records")
	}
	j.add(name(1), &supervisorpb.Claim{TimeoutNs: 5})
	j.add(name(1), &supervisorpb.Started{Pid: 7})
	must(t, j.commit())
	j.add(name(1), &supervisorpb.End{ExitCode: 3}) // not committed
	must(t, j.close())
	_, recs = reopen(t, dir)
	if len(recs) != 2 || recs[0].GetClaim().GetTimeoutNs() != 5 || recs[1].GetStarted().GetPid() != 7 || string(recs[1].GetBootId()) != "boot" {
		t.Fatalf("records %v", recs)
	}
}

// Cut or damaged anywhere, a journal gives the records before the damage, and
// what is added later is found behind them.
func TestJournalTornAnywhere(t *testing.T) {
	dir := t.TempDir()
	j, _ := reopen(t, dir)
	var ends []int64
	for i := range uint64(3) {
		j.add(name(i), &supervisorpb.Claim{TimeoutNs: 1 << 40})
		must(t, j.commit())
		ends = append(ends, j.size)
	}
	must(t, j.close())
	whole, err := os.ReadFile(filepath.Join(dir, journalName))
	must(t, err)
	for at := range whole {
		intact := 0
		for _, e := range ends {
			if int64(at) >= e {
				intact++
			}
		}
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x40
		for what, content := range map[string][]byte{"cut": whole[:at], "flipped": flipped} {
			must(t, os.WriteFile(filepath.Join(dir, journalName), content, 0o600))
			j, recs, err := openJournal(dir, "boot")
			must(t, err)
			if len(recs) != intact {
				t.Fatalf("%s at %d: %d records, want %d", what, at, len(recs), intact)
			}
			j.add(name(9), &supervisorpb.Forgot{})
			must(t, j.commit())
			must(t, j.close())
			j, recs, err = openJournal(dir, "boot")
			must(t, err)
			if len(recs) != intact+1 || recs[intact].GetName().GetSeq() != 9 {
				t.Fatalf("%s at %d: what was added later is not found", what, at)
			}
			must(t, j.close())
		}
	}
}

func TestJournalRewrite(t *testing.T) {
	dir := t.TempDir()
	j, _ := reopen(t, dir)
	for i := range uint64(100) {
		j.add(name(i), &supervisorpb.Claim{})
	}
	must(t, j.commit())
	must(t, j.replace(j.encode(nil, name(5), &supervisorpb.Claim{})))
	j.add(name(6), &supervisorpb.Claim{})
	must(t, j.commit())
	must(t, j.close())
	j, recs := reopen(t, dir)
	if len(recs) != 2 || recs[0].GetName().GetSeq() != 5 || recs[1].GetName().GetSeq() != 6 {
		t.Fatalf("records %v", recs)
	}
	must(t, j.reset())
	must(t, j.close())
	if _, recs = reopen(t, dir); len(recs) != 0 {
		t.Fatalf("records after reset: %v", recs)
	}
}

func TestJournalHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	reopen(t, dir)
	if _, _, err := openJournal(dir, "boot"); !errors.Is(err, errJournalHeld) {
		t.Fatalf("error %v, want errJournalHeld", err)
	}
}
