package process

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// FuzzJournal: whatever a crash or a disk has made of a journal, reading it gives
// the records up to the damage, what is written behind them is found the next
// time, and none of them is more than a supervisor can take in.
func FuzzJournal(f *testing.F) {
	j := &journal{bootID: []byte("boot")}
	for _, kind := range []isJournalKind{
		&supervisorpb.Claim{LogPath: []byte("/log"), TimeoutNs: 5, GraceNs: 6, Pool: "short"},
		&supervisorpb.Started{Pid: 7, TicksFrom: 8, TicksTo: 9, At: 10, BootNs: 11, Cgroup: []byte("/c")},
		&supervisorpb.Stopping{Cause: supervisorpb.StopCause_STOP_CAUSE_TIMEOUT, At: 12, BootNs: 13},
		&supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, ExitCode: 3, Message: "no"},
		&supervisorpb.Forgot{},
	} {
		j.add(name(1), kind)
		f.Add(bytes.Clone(j.buf))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, content []byte) {
		recs, good, err := readRecords(bytes.NewReader(content))
		if err != nil || good < 0 || good > int64(len(content)) {
			t.Fatalf("%d good bytes of %d, %v", good, len(content), err)
		}
		longer := j.encode(bytes.Clone(content[:good]), name(9), &supervisorpb.Forgot{})
		again, all, err := readRecords(bytes.NewReader(longer))
		if err != nil || all != int64(len(longer)) || len(again) != len(recs)+1 || again[len(recs)].GetName().GetSeq() != 9 {
			t.Fatalf("a record behind %d good ones: %d of %d bytes are good, %d records, %v", len(recs), all, len(longer), len(again), err)
		}
		for i, r := range recs {
			if !proto.Equal(r, again[i]) {
				t.Fatalf("record %d was %v and is %v", i, r, again[i])
			}
		}
		replayed(t, recs)
	})
}

// replayed has a supervisor take in records, and checks that it knows of every
// attempt what it needs.
func replayed(t *testing.T, recs []*supervisorpb.JournalRecord) {
	t.Helper()
	s := &supervisor{where: host.Identity{Boot: "boot"}, oom: &oomCounter{}}
	q := &queue{id: "q", attempts: map[task.Ref]*attempt{}, clerk: newWaker()}
	for _, r := range recs {
		s.replay(q, r)
	}
	for ref, a := range q.attempts {
		if a.ref != ref {
			t.Fatalf("attempt %v is known as %v", a.ref, ref)
		}
		if a.phase == ended && (a.end == nil || !a.settled) {
			t.Fatalf("attempt %v has ended, and there is no end", ref)
		}
	}
}

// FuzzHandle: a handle comes out of the queue's database, perhaps of another
// release or host. It is refused, or says where to look for the process.
func FuzzHandle(f *testing.F) {
	f.Add(handle{Host: "h", Machine: "m", Boot: "b", PIDs: 1, Supervisor: "s", PID: 2, Start: 3, Until: 4, Cgroup: "/c"}.encode())
	f.Add([]byte(`{"v":1,"host":"h","boot":"b","supervisor":"s","pid":7,"start":99}`))
	f.Add([]byte(`{"v":1,"start":18446744073709551615}`))
	f.Add([]byte(`{"v":3,"new":{}}`))
	f.Add([]byte(`null`))
	us := host.Identity{Machine: "m", Boot: "b", PIDs: 1, Name: "h"}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := decodeHandle(b)
		if !ok {
			if h != (handle{}) {
				t.Fatalf("%q is refused, and %+v of it is left", b, h)
			}
			return
		}
		if h.Version < 1 || h.Until < h.Start {
			t.Fatalf("%q: %+v", b, h)
		}
		again, ok := decodeHandle(h.encode())
		h.Version = handleVersion
		if !ok || again != h {
			t.Fatalf("%q: %+v was stored and is %+v", b, h, again)
		}
		if h.Boot != us.Boot && h.where(us) == here {
			t.Fatalf("%q: a process of boot %q is looked for in boot %q", b, h.Boot, us.Boot)
		}
	})
}

// FuzzMessages: what the two sides of the supervisor's socket read is taken apart
// in bounded memory, is the same when it is sent on, and says nothing by which
// the other side's bookkeeping comes apart.
func FuzzMessages(f *testing.F) {
	for _, m := range []proto.Message{
		&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Hello{Hello: &supervisorpb.Hello{MinVersion: 1, MaxVersion: 2, QueueId: "q", SpoolDir: []byte("/s")}}},
		&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Start{Start: &supervisorpb.StartBatch{
			Starts:       []*supervisorpb.Start{{Name: name(1), Argv: [][]byte{[]byte("true")}, Environment: 1}},
			Environments: []*supervisorpb.Environment{{Entries: [][]byte{[]byte("A=1")}}},
		}}},
		&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Pools{Pools: &supervisorpb.PoolLimits{Limits: map[string]uint32{"short": 1 << 31}}}},
		&supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Welcome{Welcome: &supervisorpb.Welcome{Version: 2, Pid: 3}}},
		&supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Reports{Reports: &supervisorpb.Reports{
			Reports: []*supervisorpb.Report{{Name: name(1), Phase: supervisorpb.Report_PHASE_ENDED, Pid: 4, StartTicks: 5, End: &supervisorpb.End{ExitCode: 6}}}, SnapshotDone: true,
		}}},
	} {
		var b bytes.Buffer
		if _, err := protodelim.MarshalTo(&b, m); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, stream []byte) {
		eachMessage(t, stream, func(m *supervisorpb.ToSupervisor) {
			s := &supervisor{where: host.Identity{Boot: "boot"}}
			q := &queue{id: "q", attempts: map[task.Ref]*attempt{}}
			envs := len(m.GetStart().GetEnvironments())
			for _, st := range m.GetStart().GetStarts() {
				end := s.refusal(q, st, envs)
				if end == nil && (len(st.GetArgv()) == 0 || int(st.GetEnvironment()) >= envs) {
					t.Fatalf("%v is taken in, with %d environments", st, envs)
				}
			}
		})
		eachMessage(t, stream, func(m *supervisorpb.FromSupervisor) {
			ss := &session{}
			if err := ss.welcome(m); err == nil && m.GetWelcome() == nil {
				t.Fatalf("%v is taken for a welcome", m)
			}
			snapshot{}.note(m.GetReports().GetReports())
			for _, r := range m.GetReports().GetReports() {
				if h, ok := decodeHandle(ss.handleOf(r).encode()); !ok || h.PID != r.GetPid() || h.Start != r.GetStartTicks() {
					t.Fatalf("the handle of %v is %+v", r, h)
				}
			}
		})
	})
}

// eachMessage reads messages as the socket's readers do, up to one that is none,
// and checks that each is the same when it is sent on.
func eachMessage[T any, P interface {
	*T
	proto.Message
}](t *testing.T, stream []byte, do func(P)) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(stream))
	opts := protodelim.UnmarshalOptions{MaxSize: 1 << 20} // of the real limit nobody has the memory, so often
	for range len(stream) + 1 {
		m := P(new(T))
		if err := opts.UnmarshalFrom(r, m); err != nil {
			if errors.Is(err, io.EOF) && r.Buffered() > 0 {
				t.Fatalf("the end is told with %d bytes left", r.Buffered())
			}
			return
		}
		sent, err := proto.Marshal(m)
		again := P(new(T))
		if err != nil || proto.Unmarshal(sent, again) != nil || !proto.Equal(m, again) {
			t.Fatalf("%v was sent on as %v, %v", m, again, err)
		}
		do(m)
	}
	t.Fatal("more messages than bytes")
}
