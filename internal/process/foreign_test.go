package process

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A life of a few attempts, as a supervisor writes it.
func lives(j *journal) {
	claim, started := &supervisorpb.Claim{LogPath: []byte("/log")}, &supervisorpb.Started{Pid: 7, TicksTo: 9, At: 5}
	j.add(name(1), claim)
	j.add(name(1), started)
	j.add(name(2), claim)
	j.add(name(1), &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, ExitCode: 3, Unprompted: true, At: 9})
	j.add(name(3), &supervisorpb.End{Kind: supervisorpb.End_KIND_NOT_BEGUN, RecalledBy: 4})
	j.add(name(2), started)
	j.add(name(2), &supervisorpb.Stopping{Cause: supervisorpb.StopCause_STOP_CAUSE_TIMEOUT, At: 10})
	j.add(name(3), claim) // it came back
	j.add(name(1), &supervisorpb.Forgot{})
}

func attemptOne(seq task.Seq) task.Ref { return task.Ref{Seq: seq, Attempt: 1} }

// Whatever part of a journal is to be seen, what is read of it is what was true when
// that part was all. It is complete only if nothing is behind it.
func TestForeignJournalInParts(t *testing.T) {
	j := &journal{bootID: []byte("boot")}
	lives(j)
	dir := t.TempDir()
	f := &foreignSpool{dir: dir}
	for n := range len(j.buf) + 1 {
		must(t, os.WriteFile(filepath.Join(dir, journalName), j.buf[:n], 0o600))
		must(t, f.look(time.Now()))
		recs, good, err := readRecords(bytes.NewReader(j.buf[:n]))
		must(t, err)
		if want := factsOf(recs); !reflect.DeepEqual(f.facts, want) || f.complete != (good == int64(n)) {
			t.Fatalf("of %d bytes, %d of them whole records, it knows %v, complete %v; want %v", n, good, f.facts, f.complete, want)
		}
	}
	if one := f.facts[attemptOne(1)]; !one.begun() || one.end.GetExitCode() != 3 || !one.forgot {
		t.Errorf("task 1: %+v", one)
	}
	if three := f.facts[attemptOne(3)]; !three.begun() || three.end != nil {
		t.Errorf("task 3, which came back: %+v", three)
	}
	r := f.facts[attemptOne(2)].report(attemptOne(2))
	if r.GetPhase() != supervisorpb.Report_PHASE_RUNNING || r.GetPid() != 7 || r.GetCause() != supervisorpb.StopCause_STOP_CAUSE_TIMEOUT {
		t.Errorf("task 2: %v", r)
	}
}

// A journal that is made small, emptied or removed under our eyes takes nothing back,
// and a hole in it hides what is behind, and is no record.
func TestForeignJournalChanges(t *testing.T) {
	dir := t.TempDir()
	j, _, err := openJournal(dir, "boot")
	must(t, err)
	defer j.close()
	lives(j)
	must(t, j.commit())
	f := &foreignSpool{dir: dir}
	must(t, f.look(time.Now()))
	must(t, j.replace(j.encode(nil, name(2), &supervisorpb.Claim{})))
	must(t, f.look(time.Now()))
	if f.facts[attemptOne(1)] != nil || !f.facts[attemptOne(2)].begun() || !f.complete {
		t.Errorf("made small: %v, complete %v", f.facts, f.complete)
	}
	must(t, os.Remove(filepath.Join(dir, journalName)))
	if f.look(time.Now()) == nil || f.complete || !f.facts[attemptOne(2)].begun() {
		t.Errorf("removed: %v, complete %v", f.facts, f.complete)
	}
	hole := append(make([]byte, 64), j.encode(nil, name(5), &supervisorpb.Claim{})...)
	must(t, os.WriteFile(filepath.Join(dir, journalName), hole, 0o600))
	for range 2 {
		must(t, f.look(time.Now()))
		if len(f.facts) > 0 || f.complete {
			t.Errorf("behind a hole: %v, complete %v", f.facts, f.complete)
		}
	}
}

// FuzzForeignJournal: of a journal that is cut, has holes and wrong bytes, nothing is
// read that was never true.
func FuzzForeignJournal(f *testing.F) {
	j := &journal{bootID: []byte("boot")}
	lives(j)
	var states []map[task.Ref]*fact
	recs, _, err := readRecords(bytes.NewReader(j.buf))
	if err != nil {
		f.Fatal(err)
	}
	for n := range len(recs) + 1 {
		states = append(states, factsOf(recs[:n]))
	}
	f.Add(uint16(1000), uint16(50), uint8(20), []byte("x"))
	f.Add(uint16(60), uint16(0), uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, cut, at uint16, zeros uint8, bytesThere []byte) {
		b := bytes.Clone(j.buf[:min(int(cut), len(j.buf))])
		if int(at) < len(b) {
			copy(b[at:], append(make([]byte, zeros), bytesThere...))
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, journalName), b, 0o600))
		s := &foreignSpool{dir: dir}
		must(t, s.look(time.Now()))
		for _, want := range states {
			if reflect.DeepEqual(s.facts, want) {
				return
			}
		}
		t.Fatalf("%v was never true", s.facts)
	})
}

// FuzzCard: what another host has written of its supervisor is refused, or whole.
func FuzzCard(f *testing.F) {
	f.Add([]byte(`{"host":"h","machine":"m","boot":"b","pids":1,"supervisor":"s","pid":2,"beats":3,"left":true}   `))
	f.Add([]byte(`{"host":"h","machine":"m","bo`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, cardName), b, 0o600))
		c, err := readCard(dir)
		if err != nil {
			if c != (card{}) {
				t.Fatalf("%q is refused, and %+v is left of it", b, c)
			}
			return
		}
		if c.Supervisor == "" || c.Machine == "" || c.Boot == "" {
			t.Fatalf("%q is read as %+v", b, c)
		}
	})
}

// What a supervisor asks of a card: it is written over in place, and read back.
func TestCard(t *testing.T) {
	dir := t.TempDir()
	want := card{Host: strings.Repeat("h", 64), Machine: strings.Repeat("m", 32), Boot: strings.Repeat("b", 36), PIDs: 1 << 63, Supervisor: "s", PID: 1 << 22, Beats: 1 << 63}
	for _, left := range []bool{false, true, false} {
		want.Left = left
		must(t, want.write(dir))
		if got, err := readCard(dir); err != nil || got != want {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if size := fileSize(filepath.Join(dir, cardName)); size != cardSize {
		t.Errorf("it has %d bytes", size)
	}
}

// A supervisor is heard by what changes, whatever its clock says.
func TestHeard(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, journalName), nil, 0o600))
	c := card{Host: "h", Machine: "m", Boot: "b", Supervisor: "s", Beats: 9}
	must(t, c.write(dir))
	begin := time.Now()
	f := &foreignSpool{dir: dir, heard: begin}
	must(t, f.look(begin))
	must(t, f.look(begin.Add(time.Hour)))
	if f.alive || !f.heard.Equal(begin) {
		t.Errorf("one that does not change was heard at %v", f.heard)
	}
	c.Beats++
	must(t, c.write(dir))
	must(t, f.look(begin.Add(2*time.Hour)))
	if !f.alive || !f.heard.Equal(begin.Add(2*time.Hour)) {
		t.Errorf("alive %v, heard at %v", f.alive, f.heard)
	}
}

// Which spools are those of others.
func TestForeignSpools(t *testing.T) {
	dir := t.TempDir()
	id := host.Identity{Machine: "0123456789abcdef", Boot: "aaaaaaaa-bbbb", PIDs: initialPIDs, Name: "n"}
	for _, name := range []string{"0123456789ab-aaaaaaaa", "0123456789ab-11111111", "ffffffffffff-44444444", "0123456789ab-aaaaaaaa-77", "junk"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	twin := filepath.Join(dir, "0123456789ab-22222222")
	must(t, os.Mkdir(twin, 0o700))
	must(t, card{Host: "another", Machine: id.Machine, Boot: "22222222-x", Supervisor: "s"}.write(twin))
	present, former := spools(dir, id)
	for _, path := range former {
		if ofTwin(path, id) != (path == twin) {
			t.Errorf("%s is taken for that of a twin, or is not", path)
		}
	}
	got, err := foreignSpools(dir, present, former, id)
	must(t, err)
	for i := range got {
		got[i] = filepath.Base(got[i])
	}
	if want := []string{"0123456789ab-aaaaaaaa-77", "ffffffffffff-44444444"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, err := foreignSpools(filepath.Join(dir, "none"), present, nil, id); err != nil || got != nil {
		t.Errorf("of no folder: %v, %v", got, err)
	}
}

// A machine with our id, another boot and another name may be a twin of ours, also where
// the folder is on a disk of ours: it may be served to others.
func TestTwinMachine(t *testing.T) {
	id := host.Identity{Machine: "m", Boot: "b", PIDs: 7, Name: "n"}
	for what, c := range map[string]struct {
		h    handle
		want bool
	}{
		"a twin, or renamed":   {handle{Machine: "m", Boot: "x", Host: "other"}, true},
		"restarted":            {handle{Machine: "m", Boot: "x", Host: "n"}, false},
		"another machine":      {handle{Machine: "x", Boot: "x", Host: "n"}, true},
		"here":                 {handle{Machine: "m", Boot: "b", PIDs: 7, Host: "n"}, false},
		"renamed, not started": {handle{Machine: "m", Boot: "b", PIDs: 7, Host: "other"}, false},
		"in another container": {handle{Machine: "m", Boot: "b", PIDs: 8, Host: "n"}, true},
	} {
		if got := (&Backend{id: id}).far(c.h); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
