package process

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The files in testdata/wire are what a daemon and a supervisor of protocol
// version 1 have said to one another, byte for byte: both come from a release that
// knows nothing of what was added since. Task 1 has a payload and ends with code 7,
// task 2 is stopped, task 3 prints a result.
const (
	recordedClient     = "testdata/wire/client-v1.bin"
	recordedSupervisor = "testdata/wire/supervisor-v1.bin"
	recordedQueue      = "recorded"
)

// recordedDir was the directory of the recording. It has a length that any other
// can be given.
var recordedDir = "/tmp/" + strings.Repeat("x", 59)

// recorded returns the messages of a file, each with its length, as if they had
// been recorded in dir.
func recorded(t *testing.T, path, dir string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if len(dir) > len(recordedDir) {
		t.Fatalf("%s is too long", dir)
	}
	dir += strings.Repeat("/", len(recordedDir)-len(dir))
	b = bytes.ReplaceAll(b, []byte(recordedDir), []byte(dir))
	var out [][]byte
	for r := bytes.NewReader(b); r.Len() > 0; {
		left := b[len(b)-r.Len():]
		must(t, protodelim.UnmarshalFrom(r, &supervisorpb.ToSupervisor{})) // only for its length
		out = append(out, left[:len(left)-r.Len()])
	}
	return out
}

// An older daemon comes to the present supervisor: it is spoken to as it knows it.
func TestOlderDaemon(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("z")) // it starts the supervisor
	d.connected()
	must(t, os.MkdirAll(filepath.Join(p.dir, "q/tasks/0"), 0o700))
	must(t, os.WriteFile(filepath.Join(p.dir, "q/tasks/0/1-1.payload.json"), []byte(`{"n":1}`), 0o600))
	nc, err := dial(filepath.Join(p.runtime(), socketName))
	must(t, err)
	defer nc.Close()
	must(t, nc.SetDeadline(time.Now().Add(patience)))
	msgs := recorded(t, recordedClient, p.dir)
	const hello, stop, forget = 0, 3, 4
	say := func(msgs ...[]byte) {
		_, err := nc.Write(bytes.Join(msgs, nil))
		must(t, err)
	}
	ss := &session{nc: nc, r: bufio.NewReader(nc)}
	say(msgs[hello])
	m, err := ss.receive()
	must(t, err)
	if w := m.GetWelcome(); w.GetVersion() != 1 || int(w.GetPid()) != p.supervisorPid(t) {
		t.Fatalf("welcome %v", m)
	}
	say(msgs[hello+1 : stop]...)
	last := map[uint64]*supervisorpb.Report{}
	hear := func(what string, enough func() bool) {
		t.Helper()
		for !enough() {
			m, err := ss.receive()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if m.GetReports() == nil {
				t.Fatalf("an older daemon is told %v", m)
			}
			for _, r := range m.GetReports().GetReports() {
				last[r.GetName().GetSeq()] = r
			}
		}
	}
	hear("the start", func() bool { return last[2].GetPid() != 0 && last[1].GetEnd() != nil })
	say(msgs[stop])
	hear("the end of all", func() bool { return last[2].GetEnd() != nil && last[3].GetEnd() != nil })
	if end := last[1].GetEnd(); end.GetKind() != supervisorpb.End_KIND_EXITED || end.GetExitCode() != 7 || end.GetLogBytes() != 7 {
		t.Errorf("task 1: %v", end)
	}
	if r := last[2]; r.GetCause() != supervisorpb.StopCause_STOP_CAUSE_ASKED || r.GetEnd().GetSignal() != 15 || r.GetEnd().GetUnprompted() {
		t.Errorf("task 2: %v", r)
	}
	if end := last[3].GetEnd(); end.GetKind() != supervisorpb.End_KIND_EXITED || end.GetExitCode() != 0 {
		t.Errorf("task 3: %v", end)
	}
	pid := p.supervisorPid(t)
	d.stop() // nobody else is left, so that it leaves with the last message
	waitGone(t, pid, func() {
		say(msgs[forget:]...)
		must(t, nc.Close())
	})
}

// playedSupervisor listens where a supervisor does, and says what it is given: the
// first messages after a hello, the others when tasks are handed over. It returns
// what it was told when the daemon leaves.
func playedSupervisor(t *testing.T, dir string, first, later [][]byte) (told func() []*supervisorpb.ToSupervisor) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	must(t, err)
	out := make(chan []*supervisorpb.ToSupervisor, 1)
	go func() {
		var heard []*supervisorpb.ToSupervisor
		defer func() { out <- heard }()
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		for r := bufio.NewReader(nc); ; {
			m := &supervisorpb.ToSupervisor{}
			if err := protodelim.UnmarshalFrom(r, m); err != nil {
				return // the daemon has left
			}
			heard = append(heard, m)
			var say [][]byte
			switch m.GetKind().(type) {
			case *supervisorpb.ToSupervisor_Hello:
				say = first
			case *supervisorpb.ToSupervisor_Start:
				say, later = later, nil
			}
			if _, err := io.Copy(nc, bytes.NewReader(bytes.Join(say, nil))); err != nil {
				return
			}
		}
	}()
	return func() []*supervisorpb.ToSupervisor {
		_ = l.Close() // should nobody have come
		return <-out
	}
}

// A newer daemon comes to an older supervisor: it understands it, and tells it
// nothing that it does not know.
func TestOlderSupervisor(t *testing.T) {
	p := newPlace(t)
	msgs := recorded(t, recordedSupervisor, p.dir)
	const welcome, snapshot = 0, 1
	told := playedSupervisor(t, p.runtime(), msgs[:snapshot+1], msgs[snapshot+1:])
	opts := p.options("q")
	opts.QueueID, opts.PingEvery = recordedQueue, time.Millisecond
	d := p.daemon(t, opts)
	d.connected()
	tasks := []task.Task{assigned(t, 1, argv("true")), assigned(t, 2, argv("true")), assigned(t, 3, argv("true"))}
	d.launch(tasks[0])
	if ev := d.end(tasks[0].Ref()).Event; ev.Kind != task.EventExited || ev.Outcome.ExitCode != 7 {
		t.Errorf("task 1: %+v", ev)
	}
	if ev := d.end(tasks[1].Ref()).Event; ev.Kind != task.EventStopped || ev.Outcome.Signal != 15 {
		t.Errorf("task 2: %+v", ev)
	}
	if ev := d.end(tasks[2].Ref()).Event; ev.Kind != task.EventExited || ev.Outcome.ExitCode != 0 {
		t.Errorf("task 3: %+v", ev)
	}
	h, ok := decodeHandle(d.await(tasks[0].Ref(), task.EventLaunched).Event.Handle)
	if !ok || h.PID == 0 || h.Start == 0 || h.Until < h.Start || h.Host != "vm" {
		t.Errorf("handle %+v", h)
	}
	d.stop()
	for _, m := range told() {
		if m.GetPing() != nil {
			t.Error("it was asked for a word, and has none")
		}
	}
}

// framed is a message as it is on the wire.
func framed(t *testing.T, m proto.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := protodelim.MarshalTo(&b, m)
	must(t, err)
	return b.Bytes()
}

// A newer supervisor may say what we do not know: more fields, messages and
// values. An end of a kind that is new is not taken for success.
func TestNewerSupervisor(t *testing.T) {
	more := []byte{0xf8, 0x07, 0x01} // field 127
	id := "00000000-0000-4000-8000-000000000000"
	w := &supervisorpb.Welcome{Version: maxVersion, SupervisorId: "new", Host: "vm", BootId: id, Pid: 2, Machine: "m"}
	w.ProtoReflect().SetUnknown(more)
	strange := &supervisorpb.FromSupervisor{}
	strange.ProtoReflect().SetUnknown(more)
	done := &supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Reports{Reports: &supervisorpb.Reports{SnapshotDone: true}}}
	report := func(seq uint64, phase supervisorpb.Report_Phase, kind supervisorpb.End_Kind) *supervisorpb.Report {
		r := &supervisorpb.Report{Name: name(seq), Phase: phase, Pid: 7, StartTicks: 1, StartedAt: 1}
		if kind != 0 {
			r.End = &supervisorpb.End{Kind: kind, Unprompted: true}
		}
		r.ProtoReflect().SetUnknown(more)
		return r
	}
	reports := &supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Reports{Reports: &supervisorpb.Reports{Reports: []*supervisorpb.Report{
		report(1, 99, 0), // a phase between those that we know
		report(1, supervisorpb.Report_PHASE_ENDED, supervisorpb.End_KIND_EXITED),
		report(2, supervisorpb.Report_PHASE_ENDED, 99),
	}}}}
	p := newPlace(t)
	first := [][]byte{framed(t, &supervisorpb.FromSupervisor{Kind: &supervisorpb.FromSupervisor_Welcome{Welcome: w}}), framed(t, strange), framed(t, done)}
	told := playedSupervisor(t, p.runtime(), first, [][]byte{framed(t, strange), framed(t, reports)})
	d := p.daemon(t, p.options("q"))
	d.connected()
	known, unknown := assigned(t, 1, argv("true")), assigned(t, 2, argv("true"))
	d.launch(known, unknown)
	if ev := d.end(known.Ref()).Event; ev.Kind != task.EventExited || ev.Outcome.ExitCode != 0 {
		t.Errorf("event %+v", ev)
	}
	if ev := d.end(unknown.Ref()).Event; ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "newer") {
		t.Errorf("event %+v", ev)
	}
	d.stop()
	told()
}

// What was recorded is read to the last field: none has lost its number.
func TestRecordedMessagesAreKnown(t *testing.T) {
	for path, m := range map[string]proto.Message{recordedClient: &supervisorpb.ToSupervisor{}, recordedSupervisor: &supervisorpb.FromSupervisor{}} {
		for i, b := range recorded(t, path, recordedDir) {
			proto.Reset(m)
			must(t, protodelim.UnmarshalFrom(bytes.NewReader(b), m))
			must(t, protorange.Range(m.ProtoReflect(), func(at protopath.Values) error {
				if part, ok := at.Index(-1).Value.Interface().(protoreflect.Message); ok && len(part.GetUnknown()) > 0 {
					t.Errorf("%s: message %d has unknown fields at %v", path, i, at.Path)
				}
				return nil
			}))
		}
	}
}
