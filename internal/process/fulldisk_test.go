package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// fullDisk is a file on a disk that takes so many more bytes. It may refuse to
// be truncated as well.
type fullDisk struct {
	journalFile
	room       int
	noTruncate bool
}

func (f *fullDisk) Write(b []byte) (int, error) {
	n := min(f.room, len(b))
	f.room -= n
	if n, err := f.journalFile.Write(b[:n]); err != nil {
		return n, err
	}
	if n < len(b) {
		return n, unix.ENOSPC
	}
	return n, nil
}

func (f *fullDisk) Truncate(size int64) error {
	if f.noTruncate {
		return unix.EIO
	}
	return f.journalFile.Truncate(size)
}

// However often a disk is full, and wherever a write breaks off: all that was
// added is in the journal in the end, once and in order.
func TestJournalOutlastsAFullDisk(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	j, _ := reopen(t, dir)
	disk := &fullDisk{journalFile: j.f}
	j.f = disk
	failed, n := 0, uint64(300)
	for seq := range n {
		j.add(name(seq), &supervisorpb.Claim{TimeoutNs: int64(seq)})
		disk.room, disk.noTruncate = rng.IntN(60), rng.IntN(3) == 0
		if err := j.commit(); err != nil {
			failed++
			if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
			continue
		}
		if j.pending() {
			t.Fatal("something is left after a commit")
		}
	}
	disk.room, disk.noTruncate = 1<<20, false
	must(t, j.commit())
	must(t, j.close())
	_, recs := reopen(t, dir)
	if len(recs) != int(n) || failed == 0 {
		t.Fatalf("%d records, want %d; %d writes failed", len(recs), n, failed)
	}
	for i, r := range recs {
		if r.GetName().GetSeq() != uint64(i) || r.GetClaim().GetTimeoutNs() != int64(i) {
			t.Fatalf("record %d is %v", i, r)
		}
	}
}

// A journal that cannot be replaced goes on as it was.
func TestJournalThatCannotBeReplaced(t *testing.T) {
	dir := t.TempDir()
	j, _ := reopen(t, dir)
	j.add(name(1), &supervisorpb.Claim{})
	must(t, j.commit())
	must(t, os.Mkdir(filepath.Join(dir, journalName+newSuffix), 0o700))
	if err := j.replace(j.encode(nil, name(2), &supervisorpb.Claim{})); err == nil {
		t.Fatal("it was replaced")
	}
	j.add(name(3), &supervisorpb.Claim{})
	must(t, j.commit())
	must(t, j.close())
	if _, recs := reopen(t, dir); len(recs) != 2 || recs[1].GetName().GetSeq() != 3 {
		t.Fatalf("records %v", recs)
	}
}

// fileLimit bounds the size of files that the supervisor writes, which to it is
// a disk that is full: a write stops in the middle.
func (p *place) fileLimit(t *testing.T, size uint64) {
	t.Helper()
	var lim unix.Rlimit
	pid := p.supervisorPid(t)
	must(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &lim))
	lim.Cur = min(size, lim.Max)
	must(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &lim, nil))
}

func journalSize(t *testing.T, b *Backend) uint64 {
	t.Helper()
	st, err := os.Stat(filepath.Join(b.spool, journalName))
	must(t, err)
	return uint64(st.Size())
}

// With a full disk no task starts, since its claim could not be found again; what
// runs is held to its time limit, and its end is told. With room again
// everything goes on, and a supervisor that comes later knows all of it.
func TestSupervisorOnAFullDisk(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	gate, ran := filepath.Join(p.dir, "gate"), filepath.Join(p.dir, "ran")
	limited := sh("exec sleep 1000")
	limited.Timeout, limited.Grace = 500*time.Millisecond, time.Second
	before := []task.Task{assigned(t, 1, sh(waitFor(gate)+"exit 5")), assigned(t, 2, limited)}
	d.launch(before...)
	for _, tk := range before {
		d.await(tk.Ref(), task.EventStarted)
	}
	p.fileLimit(t, journalSize(t, d.Backend)+10) // the next record breaks off
	late, never := assigned(t, 3, sh("echo late > "+ran)), assigned(t, 4, sh("echo never > "+ran))
	d.launch(late, never)
	openGate(t, gate)
	if ev := d.end(before[0].Ref()).Event; ev.Kind != task.EventExited || ev.Outcome.ExitCode != 5 {
		t.Errorf("event %+v", ev)
	}
	if ev := d.end(before[1].Ref()).Event; ev.Kind != task.EventStopped {
		t.Errorf("event %+v", ev)
	}
	must(t, d.Stop(t.Context(), never))
	if ev := d.end(never.Ref()).Event; ev.Kind != task.EventStopped {
		t.Errorf("event %+v", ev)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a task ran without a claim")
	}
	p.fileLimit(t, 1<<62)
	if ev := d.end(late.Ref()).Event; ev.Kind != task.EventExited || ev.Outcome.ExitCode != 0 {
		t.Errorf("event %+v", ev)
	}
	if b, err := os.ReadFile(ran); err != nil || string(b) != "late\n" {
		t.Errorf("ran: %q, %v", b, err)
	}
	d.stop()
	p.endSupervisor(t)
	p.knowsAllEnds(t, d.Backend, 4)
	b, err := os.ReadFile(defaultLog(p.runtime()))
	must(t, err)
	for _, want := range []string{"cannot be written", "can be written again"} {
		if n := strings.Count(string(b), want); n != 1 {
			t.Errorf("the log says %d times that the journal %s", n, want)
		}
	}
}

// knowsAllEnds checks that the journal holds the ends of so many attempts, and
// each claim once.
func (p *place) knowsAllEnds(t *testing.T, b *Backend, want int) {
	t.Helper()
	j, recs, err := openJournal(b.spool, b.id.Boot)
	must(t, err)
	defer j.close()
	count := map[string]int{}
	for _, r := range recs {
		count[fmt.Sprintf("%T %d", r.GetKind(), r.GetName().GetSeq())]++
	}
	for seq := 1; seq <= want; seq++ {
		if n := count[fmt.Sprintf("%T %d", &supervisorpb.JournalRecord_Ended{}, seq)]; n != 1 {
			t.Errorf("the journal has %d ends of task %d: %v", n, seq, count)
		}
		if n := count[fmt.Sprintf("%T %d", &supervisorpb.JournalRecord_Claim{}, seq)]; n != 1 {
			t.Errorf("the journal has %d claims of task %d: %v", n, seq, count)
		}
	}
}
