package process

import (
	"path/filepath"
	"testing"

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

// Without a table of processes nobody is taken for gone.
func TestEnderWithoutTable(t *testing.T) {
	a := &attempt{phase: running, stop: stop{cause: supervisorpb.StopCause_STOP_CAUSE_ASKED}}
	a.proc.gone, a.ending.active = true, true
	(&supervisor{}).step(a, nil, nil)
	if a.phase != running || a.stop.signalled || a.ending.nextAt == 0 {
		t.Fatalf("phase %d, signalled %v, next look %d", a.phase, a.stop.signalled, a.ending.nextAt)
	}
}
