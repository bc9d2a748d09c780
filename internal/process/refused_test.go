package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// A start that the supervisor does not take in is answered, or the task would
// stay assigned for ever.
func TestRefusedStartIsReported(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	d.connected()
	h := &supervisorpb.Hello{MinVersion: minVersion, MaxVersion: maxVersion, QueueId: "x", SpoolDir: []byte(filepath.Join(p.dir, "x"))}
	ss, err := openSession(filepath.Join(p.runtime(), socketName), h)
	must(t, err)
	defer ss.nc.Close()
	name := func(seq uint64) *supervisorpb.Name { return &supervisorpb.Name{Seq: seq, Attempt: 1} }
	envs := []*supervisorpb.Environment{{}}
	start := func(st *supervisorpb.Start) *supervisorpb.End {
		must(t, ss.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Start{Start: &supervisorpb.StartBatch{
			Starts: []*supervisorpb.Start{st}, Environments: envs,
		}}}))
		for {
			m, err := ss.receive()
			must(t, err)
			for _, r := range m.GetReports().GetReports() {
				if r.GetName().GetSeq() == st.GetName().GetSeq() && r.GetEnd() != nil {
					return r.GetEnd()
				}
			}
		}
	}
	if end := start(&supervisorpb.Start{Name: name(1)}); end.GetKind() != supervisorpb.End_KIND_NOT_STARTED {
		t.Fatalf("without a command: %v", end)
	}
	if end := start(&supervisorpb.Start{Name: name(2), Argv: raw([]string{"true"}), Environment: 7}); end.GetKind() != supervisorpb.End_KIND_NOT_STARTED {
		t.Fatalf("without its environment: %v", end)
	}
	st := &supervisorpb.Start{Name: name(3), Argv: raw([]string{"/no/such"}), LogPath: []byte(filepath.Join(p.dir, "log"))}
	start(st)
	must(t, ss.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Forget{Forget: &supervisorpb.ForgetBatch{Names: []*supervisorpb.Name{st.GetName()}}}}))
	if end := start(st); end.GetKind() != supervisorpb.End_KIND_VANISHED {
		t.Fatalf("after it was forgotten: %v", end)
	}
}

// A FIFO in place of the output must not block whoever looks for a result.
func TestOutputThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	must(t, unix.Mkfifo(path, 0o600))
	if res, err := markedLine(path, 1<<20); res != nil || err != nil {
		t.Fatalf("%q, %v", res, err)
	}
	if _, err := resultFile(path, 1); err == nil {
		t.Fatal("a FIFO was read as a result")
	}
}

// What is cut is noted first, and a cut that fails leaves no note.
func TestCutIsNotedFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(4<<20))
	r, err := os.Open(path)
	must(t, err)
	defer r.Close()
	if err := cutLog(int(r.Fd()), path, 4<<20, 1<<20); err == nil { // it is not open for writing
		t.Fatal("no error")
	}
	if _, err := os.Stat(path + cutsSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a note of what was not cut: %v", err)
	}
	must(t, cutLog(int(f.Fd()), path, 4<<20, 1<<20))
	cuts, err := readCuts(path)
	must(t, err)
	if len(cuts) != 1 || cuts[0].From != logHead || cuts[0].To != 4<<20-1<<19 {
		t.Fatalf("cuts %+v", cuts)
	}
}

// Without a table of processes nobody is taken for gone.
func TestEnderWithoutTable(t *testing.T) {
	a := &attempt{phase: running, stop: stop{cause: supervisorpb.StopCause_STOP_CAUSE_ASKED}}
	a.proc.gone, a.ending.active = true, true
	(&supervisor{}).step(a, nil, nil)
	if a.phase != running || a.stop.signalled || a.ending.nextAt == 0 {
		t.Fatalf("phase %d, signalled %v, next look %d", a.phase, a.stop.signalled, a.ending.nextAt)
	}
}
