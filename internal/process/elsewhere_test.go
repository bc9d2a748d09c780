package process

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// farSpool is the spool of a supervisor on another machine, which is silent.
func farSpool(t *testing.T, opts Options, write func(j *journal)) (dir string, h handle) {
	t.Helper()
	h = handle{Host: "far-away", Machine: strings.Repeat("f", 32), Boot: "ffffffff-0000", Supervisor: "s", PID: 1}
	dir = filepath.Join(opts.SpoolDir, "ffffffffffff-ffffffff")
	writeJournal(t, dir, h.Boot, write)
	must(t, card{Host: h.Host, Machine: h.Machine, Boot: h.Boot, Supervisor: "s", Beats: 1}.write(dir))
	return dir, h
}

// A start that is read after the lease has run out is not taken, and handed over again
// when the queue is known to be ours again.
func TestStartAfterTheLease(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	var until atomic.Int64
	until.Store(int64(bootNow().add(time.Hour)))
	opts.LeaseUntil = until.Load
	d := p.daemon(t, opts)
	before := assigned(t, 1, sh("exit 3"))
	d.launch(before)
	d.end(before.Ref())
	until.Store(1)
	late := assigned(t, 2, counted(p, "exit 4"))
	d.launch(late)
	poll(t, "the answer that it came too late", func() bool {
		b, err := os.ReadFile(defaultLog(p.runtime()))
		must(t, err)
		return strings.Contains(string(b), "came too late")
	})
	if _, err := os.Stat(filepath.Join(p.dir, "ran")); err == nil {
		t.Fatal("it has begun")
	}
	until.Store(int64(bootNow().add(time.Hour)))
	if ev := d.end(late.Ref()).Event; ev.Outcome.ExitCode != 4 {
		t.Fatalf("event %+v", ev)
	}
}

// An end in the journal of another machine is told once, with what the program gave
// back, and that its supervisor may forget it.
func TestEndOnAnotherMachine(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.LookEvery = 10 * time.Millisecond
	l := taskfiles.Layout{Dir: opts.TasksDir}
	must(t, l.Prepare(attemptOne(1)))
	must(t, os.WriteFile(l.ResultPath(attemptOne(1)), []byte(`{"a":1}`), 0o600))
	dir, h := farSpool(t, opts, func(j *journal) {
		for seq := range uint64(2) {
			j.add(name(seq+1), &supervisorpb.Claim{})
			j.add(name(seq+1), &supervisorpb.Started{Pid: 1, At: 5})
		}
		j.add(name(1), &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, Unprompted: true, At: 9})
	})
	running := apply(t, launchedAs(t, 2, h), task.Event{Kind: task.EventStarted, Attempt: 1})
	d := p.daemon(t, opts, launchedAs(t, 1, h), running)
	c := d.end(attemptOne(1))
	if c.Event.Kind != task.EventExited || c.Event.At != 9 || c.Event.Outcome.Node != h.Host || string(c.Result) != `{"a":1}` {
		t.Fatalf("event %+v, result %s", c.Event, c.Result)
	}
	if ev := d.await(running.Ref(), task.EventNoted).Event; !strings.Contains(ev.Text, "runs on host far-away") {
		t.Fatalf("event %+v", ev)
	}
	d.connected()
	must(t, d.Forget(t.Context(), []task.Ref{attemptOne(1)}))
	if got := requestsIn(dir); !slices.Equal(got, []request{{what: askForget, ref: attemptOne(1)}}) {
		t.Fatalf("it is asked for %+v", got)
	}
	d.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := kindsOf(d.events[attemptOne(1)]); !slices.Equal(got, []string{"launched", "started", "exited"}) {
		t.Errorf("told %v", got)
	}
	if got := kindsOf(d.events[running.Ref()]); !slices.Equal(got, []string{"noted"}) {
		t.Errorf("told of what the queue knows to run: %v", got)
	}
}

// A task that somebody cancels waits for the supervisor on the other machine, which is
// asked, and is given up when that is silent for long.
func TestCancelOnASilentMachine(t *testing.T) {
	defer func(d time.Duration) { distantPatience = d }(distantPatience)
	distantPatience = 50 * time.Millisecond
	p := newPlace(t)
	opts := p.options("q")
	opts.LookEvery = 10 * time.Millisecond
	dir, h := farSpool(t, opts, func(j *journal) {
		j.add(name(1), &supervisorpb.Claim{})
		j.add(name(1), &supervisorpb.Started{Pid: 1, At: 5})
	})
	far := launchedAs(t, 1, h)
	d := p.daemon(t, opts, far)
	d.await(far.Ref(), task.EventStarted)
	far = asStopping(t, far)
	must(t, d.Stop(t.Context(), far))
	ev := d.end(far.Ref()).Event
	if ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "asked to end it") || !strings.Contains(ev.Text, "may still run") {
		t.Fatalf("event %+v", ev)
	}
	if got := requestsIn(dir); !slices.Equal(got, []request{{what: askStop, ref: far.Ref()}}) {
		t.Fatalf("it is asked for %+v", got)
	}
}

// What an owner on another machine may have handed over begins here as soon as its
// supervisor says that it does not begin there; where nobody was handed anything, at
// once.
func TestInheritance(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.LookEvery, opts.Fence = 10*time.Millisecond, 7
	dir, h := farSpool(t, opts, func(j *journal) { j.add(name(2), &supervisorpb.Claim{}) })
	must(t, os.WriteFile(filepath.Join(dir, handOverPrefix+"1"), nil, 0o600))
	waits, there := assigned(t, 1, counted(p, "exit 3")), assigned(t, 2, sh("exit 3"))
	d := p.daemon(t, opts, waits, there)
	d.connected()
	d.launch(waits, there)
	ev := d.await(there.Ref(), task.EventLaunched).Event
	if got, ok := decodeHandle(ev.Handle); !ok || got.Machine != h.Machine || got.Boot != h.Boot || got.Host != h.Host {
		t.Errorf("what was claimed there has the handle %s", ev.Handle)
	}
	if ev := d.await(waits.Ref(), task.EventNoted).Event; !strings.Contains(ev.Text, "may have been handed to the supervisor on host far-away") {
		t.Fatalf("event %+v", ev)
	}
	if got := requestsIn(dir); !slices.Equal(got, []request{{what: askRecall, ref: waits.Ref(), fence: 7}}) {
		t.Fatalf("it is asked for %+v", got)
	}
	for _, answer := range []uint64{6, 7} { // the first is to somebody else
		if _, err := os.Stat(filepath.Join(p.dir, "ran")); err == nil {
			t.Fatal("it has begun before that was known")
		}
		writeJournal(t, dir, h.Boot, func(j *journal) {
			j.add(name(1), &supervisorpb.End{Kind: supervisorpb.End_KIND_NOT_BEGUN, RecalledBy: answer})
		})
	}
	if ev := d.end(waits.Ref()).Event; ev.Outcome.ExitCode != 3 {
		t.Fatalf("event %+v", ev)
	}
	poll(t, "the end of the traces", func() bool {
		names, err := handOversIn(dir)
		must(t, err)
		return len(names) == 0
	})
	d.stop()
	next := assigned(t, 3, sh("exit 5"))
	d = p.daemon(t, opts, next)
	d.launch(next)
	if ev := d.end(next.Ref()).Event; ev.Outcome.ExitCode != 5 {
		t.Fatalf("event %+v", ev)
	}
}

// A cancelled one is not waited for for ever.
func TestCancelOfAnInheritance(t *testing.T) {
	defer func(d time.Duration) { distantPatience = d }(distantPatience)
	distantPatience = 50 * time.Millisecond
	p := newPlace(t)
	opts := p.options("q")
	opts.LookEvery = 10 * time.Millisecond
	dir, _ := farSpool(t, opts, func(*journal) {})
	must(t, os.WriteFile(filepath.Join(dir, handOverPrefix+"1"), nil, 0o600))
	tk := assigned(t, 1, counted(p, "exit 3"))
	d := p.daemon(t, opts, tk)
	d.connected()
	d.launch(tk)
	d.await(tk.Ref(), task.EventNoted)
	must(t, d.Stop(t.Context(), asStopping(t, tk)))
	if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "cancelled before that was known") {
		t.Fatalf("event %+v", ev)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "ran")); err == nil {
		t.Fatal("it has begun")
	}
}

// Each daemon leaves one trace in its spool, before it hands over the first task, and
// removes those before it. A spool that is removed goes with all that is in it.
func TestTrace(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	var last []string
	for seq := range task.Seq(3) {
		d := p.daemon(t, opts)
		tk := assigned(t, seq+1, sh("exit 3"))
		d.launch(tk)
		d.end(tk.Ref())
		names, err := handOversIn(d.spool)
		must(t, err)
		if len(names) != 1 || slices.Equal(names, last) {
			t.Fatalf("traces %v after %v", names, last)
		}
		last = names
		d.stop()
		if seq == 2 {
			p.endSupervisor(t)
			must(t, request{what: askStop, ref: tk.Ref()}.put(d.spool))
			if c, err := readCard(d.spool); err != nil || !c.Left {
				t.Errorf("of the supervisor that left: %+v, %v", c, err)
			}
			gone, err := removeSpool(d.spool)
			if _, statErr := os.Stat(d.spool); err != nil || !gone || statErr == nil {
				t.Errorf("removed %v, %v; %v", gone, err, names)
			}
		}
	}
}
