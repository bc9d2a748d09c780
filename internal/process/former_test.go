package process

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// writeJournal makes a journal as an earlier supervisor left it.
func writeJournal(t *testing.T, dir, boot string, write func(j *journal)) {
	t.Helper()
	j, _, err := openJournal(dir, boot)
	must(t, err)
	write(j)
	must(t, j.commit())
	must(t, j.close())
}

func formerSpool(t *testing.T, opts Options, boot string) string {
	t.Helper()
	id, err := host.This()
	must(t, err)
	id.Boot = boot
	return filepath.Join(opts.SpoolDir, shortMachine(id)+"-"+spoolSuffix(id))
}

// After the machine was restarted, ends are told that its journal knew and the
// daemon did not; what had no end is lost, and nothing is run again.
func TestJournalOfEarlierBoot(t *testing.T) {
	const boot = "deadbeef-0000-4000-8000-000000000000"
	p := newPlace(t)
	opts := p.options("q")
	dir := formerSpool(t, opts, boot)
	l := taskfiles.Layout{Dir: opts.TasksDir}
	ref := func(seq task.Seq) task.Ref { return task.Ref{Seq: seq, Attempt: 1} }
	must(t, l.Prepare(ref(1)))
	must(t, os.WriteFile(l.ResultPath(ref(1)), []byte(`{"a":1}`), 0o600))
	writeJournal(t, dir, boot, func(j *journal) {
		claim := &supervisorpb.Claim{LogPath: []byte(l.LogPath(ref(1)))}
		started := &supervisorpb.Started{Pid: int32(os.Getpid()), TicksTo: 1 << 60, At: 5}
		for seq := range uint64(4) {
			j.add(name(seq+1), claim)
		}
		for seq := range uint64(3) {
			j.add(name(seq+1), started)
		}
		j.add(name(1), &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, Unprompted: true, At: 9})
		j.add(name(2), &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, ExitCode: 3, Unprompted: true, At: 9})
		j.add(name(2), &supervisorpb.Forgot{})
	})
	old := handle{Host: "x", Machine: "m", Boot: boot, PID: int32(os.Getpid())}
	id, err := host.This()
	must(t, err)
	old.Machine = id.Machine
	ran := counted(p, "true")
	active := []task.Task{launchedAs(t, 1, old), launchedAs(t, 3, old), assigned(t, 4, ran)}
	d := p.daemon(t, opts, active...)
	d.launch(active[2])
	c := d.end(ref(1))
	if c.Event.Kind != task.EventExited || c.Event.Outcome.ExitCode != 0 || c.Event.At != 9 || string(c.Result) != `{"a":1}` {
		t.Fatalf("event %+v, result %s", c.Event, c.Result)
	}
	for _, seq := range []task.Seq{3, 4} {
		if ev := d.end(ref(seq)).Event; ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "restarted") {
			t.Fatalf("event %+v", ev)
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, "ran")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("what may have run was run again")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the journal of the earlier boot is still there: %v", err)
	}
	d.stop()
	p.endSupervisor(t) // what it took over is in its own journal now
	d = p.daemon(t, opts, active...)
	if ev := d.end(ref(1)).Event; ev.Kind != task.EventExited || ev.At != 9 {
		t.Fatalf("event %+v", ev)
	}
}

// Of another pid namespace (a container) nothing can be looked up. What may
// still run there is left alone; what has let go of its output is lost. The other
// container had the queue's directory somewhere else.
func TestJournalOfAnotherNamespace(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	id, err := host.This()
	must(t, err)
	id.PIDs++
	dir := filepath.Join(opts.SpoolDir, shortMachine(id)+"-"+spoolSuffix(id))
	l := taskfiles.Layout{Dir: opts.TasksDir}
	there := taskfiles.Layout{Dir: filepath.Join("/of-another-container", filepath.Base(opts.TasksDir))}
	runs, gone, unknown := task.Ref{Seq: 1, Attempt: 1}, task.Ref{Seq: 2, Attempt: 1}, task.Ref{Seq: 3, Attempt: 1}
	must(t, l.Prepare(runs))
	out, err := os.Create(l.LogPath(runs))
	must(t, err)
	defer out.Close()
	must(t, os.WriteFile(l.LogPath(gone), nil, 0o600))
	h := handle{Host: "c", Machine: id.Machine, Boot: id.Boot, PIDs: id.PIDs, PID: int32(os.Getpid())}
	writeJournal(t, dir, id.Boot, func(j *journal) {
		for _, ref := range []task.Ref{runs, gone, unknown} {
			j.add(nameOf(ref), &supervisorpb.Claim{LogPath: []byte(there.LogPath(ref))})
			j.add(nameOf(ref), &supervisorpb.Started{Pid: h.PID, TicksTo: 1 << 60})
		}
	})
	active := []task.Task{launchedAs(t, 1, h), launchedAs(t, 2, h), launchedAs(t, 3, h)}
	d := p.daemon(t, opts, active...)
	if ev := d.end(gone).Event; ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "nobody has its output open") {
		t.Fatalf("event %+v", ev)
	}
	for _, ref := range []task.Ref{runs, unknown} {
		if ev := d.await(ref, append(ends, task.EventNoted)...).Event; ev.Kind != task.EventNoted {
			t.Fatalf("event %+v", ev)
		}
	}
	d.stop()
	must(t, out.Close())
	d = p.daemon(t, opts, active[0])
	if ev := d.end(runs).Event; ev.Kind != task.EventVanished {
		t.Fatalf("event %+v", ev)
	}
}

// Where is the output that a journal of another container speaks of.
func TestLogOfAnotherContainer(t *testing.T) {
	for path, want := range map[string]string{
		"":                         "",
		"/there/q/tasks/0/7-1.log": "/here/q/tasks/0/7-1.log",
		"/x/out/12/12000-2.log":    "/here/q/out/12/12000-2.log",
	} {
		if got := hereLog("/here/q/spool/machine-boot-1", path); got != want {
			t.Errorf("%s is at %q, want %q", path, got, want)
		}
	}
}

// A journal that another supervisor has for weeks is looked at less and less
// often, and the log says so once.
func TestHeldJournalIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	s := &supervisor{log: slog.New(slog.NewTextHandler(&log, nil)), queues: map[string]*queue{}}
	q := testQueue(t, s, "q")
	dir := t.TempDir()
	other, _, err := openJournal(dir, "boot")
	must(t, err)
	s.takeOver(q, []string{dir})
	s.takeOver(q, []string{dir}) // for a client that comes again
	for range 3 {
		q.former.at = 0
		s.takeOverLater(q)
	}
	if got := strings.Count(log.String(), "another supervisor has the journal"); got != 1 || q.former.pause != 8*formerFirst {
		t.Fatalf("pause %s; the log says:\n%s", q.former.pause, log.String())
	}
	for range 10 {
		q.former.later(q.former.dirs)
	}
	if left := time.Duration(q.former.at - bootNow()); left > formerLast {
		t.Errorf("the next look is in %s", left)
	}
	must(t, other.close())
	q.former.at = 0
	s.takeOverLater(q)
	if len(q.former.dirs) > 0 || fileSize(filepath.Join(dir, journalName)) >= 0 {
		t.Errorf("it was not taken over; the log says:\n%s", log.String())
	}
}
