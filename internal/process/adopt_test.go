package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// loseJournal kills the supervisor and removes the journal of the queue.
func (p *place) loseJournal(t testing.TB, d *daemon) {
	t.Helper()
	pid := p.runningSupervisor(t)
	must(t, unix.Kill(pid, unix.SIGSTOP)) // so that it writes no more
	must(t, os.Remove(filepath.Join(d.spool, journalName)))
	p.signalSupervisor(t, unix.SIGKILL)
}

// counted is a task that notes each time it begins.
func counted(p *place, script string) task.Spec {
	return sh(fmt.Sprintf("echo ran >> %s/ran; ", p.dir) + script)
}

// ranOnce fails if it was begun more often.
func (p *place) ranOnce(t testing.TB) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "ran"))
	must(t, err)
	if string(b) != "ran\n" {
		t.Fatalf("it ran %d times", strings.Count(string(b), "\n"))
	}
}

// A task goes on when its supervisor is killed and the journal is gone: the next
// one follows it by its handle, however old that is, and learns how it ends. The
// program hides its marker, so that nothing else leads there.
func TestLostJournal(t *testing.T) {
	for what, edit := range map[string]func(*handle){
		"same daemon": nil,
		"next daemon": func(*handle) {},
		"old handle": func(h *handle) {
			*h = handle{Host: h.Host, Boot: h.Boot, Supervisor: h.Supervisor, PID: h.PID, Start: h.Start}
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			opts := p.options("q")
			d := p.daemon(t, opts)
			gate := filepath.Join(p.dir, "gate")
			tk := assigned(t, 1, counted(p, fmt.Sprintf("exec env -i PATH=$PATH /bin/sh -c '%s exit 7'", waitFor(gate))))
			d.launch(tk)
			tk = runningAs(t, tk, d)
			if edit != nil {
				d.stop()
				tk = rehandled(t, tk, edit)
			}
			first := p.supervisorPid(t)
			p.loseJournal(t, d)
			if edit != nil {
				d = p.daemon(t, opts, tk)
			}
			p.awaitSupervisor(t, first)
			d.connected()
			openGate(t, gate)
			ev := d.end(tk.Ref()).Event
			if ev.Kind == task.EventVanished && !exitsCanBeTold() {
				return // this kernel tells nobody but parents how a process ended
			}
			if ev.Kind != task.EventExited || ev.Outcome.ExitCode != 7 {
				t.Fatalf("event %+v", ev)
			}
			p.ranOnce(t)
		})
	}
}

// rehandled is the task with another handle.
func rehandled(t testing.TB, tk task.Task, edit func(*handle)) task.Task {
	t.Helper()
	h, ok := decodeHandle(tk.Status().Handle)
	if !ok {
		t.Fatal("no handle")
	}
	edit(&h)
	again := assigned(t, tk.Seq, *tk.Spec)
	return apply(t, again, task.Event{Kind: task.EventLaunched, Attempt: 1, Handle: h.encode()}, task.Event{Kind: task.EventStarted, Attempt: 1})
}

// Started and not reported before everything was lost: it is found by its marker
// and not begun again when it is handed over again. Should it end before that, its
// result is found all the same, though nobody knew where its output is.
func TestLostJournalBeforeTheReport(t *testing.T) {
	for _, again := range []bool{true, false} {
		t.Run(fmt.Sprintf("again=%v", again), func(t *testing.T) {
			p := newPlace(t)
			opts := p.options("q")
			d := p.daemon(t, opts)
			gate := filepath.Join(p.dir, "gate")
			spec := counted(p, waitFor(gate)+`echo '`+taskfiles.ResultMarker+`{"a":1}'`)
			tk := assigned(t, 1, spec)
			d.launch(tk)
			d.await(tk.Ref(), task.EventStarted)
			d.stop()
			p.loseJournal(t, d)
			d = p.daemon(t, opts, tk)
			if again {
				d.launch(tk)
			}
			d.await(tk.Ref(), task.EventStarted)
			openGate(t, gate)
			c := d.end(tk.Ref())
			p.ranOnce(t)
			if c.Event.Kind == task.EventVanished && !exitsCanBeTold() {
				return // as above
			}
			if c.Event.Kind != task.EventExited || string(c.Result) != `{"a":1}` {
				t.Fatalf("event %+v, result %s", c.Event, c.Result)
			}
		})
	}
}

// What the journal has lost can still be stopped, with all it started.
func TestLostJournalAndStop(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	tk := assigned(t, 1, counted(p, "sleep 1000 & sleep 1000"))
	d.launch(tk)
	tk = runningAs(t, tk, d)
	h, _ := decodeHandle(tk.Status().Handle)
	d.stop()
	p.loseJournal(t, d)
	tk = apply(t, tk, task.Event{Kind: task.EventStopping, Attempt: 1, Cause: task.CauseCancel})
	d = p.daemon(t, opts, tk)
	must(t, d.Stop(t.Context(), tk))
	if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventStopped {
		t.Fatalf("event %+v", ev)
	}
	if left := inSession(t, int(h.PID)); left > 0 {
		t.Fatalf("%d processes are left", left)
	}
}

func inSession(t testing.TB, session int) (n int) {
	t.Helper()
	table, err := processes()
	must(t, err)
	for _, q := range table {
		if q.session == session && !q.zombie() {
			n++
		}
	}
	return n
}

// The supervisor need not have been told before: a stop says what to end.
func TestStopSaysWhatToEnd(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	tk := assigned(t, 1, sh("sleep 1000"))
	d.launch(tk)
	tk = runningAs(t, tk, d)
	d.stop()
	p.loseJournal(t, d)
	d = p.daemon(t, p.options("q2"))
	d.connected()
	h := &supervisorpb.Hello{MinVersion: minVersion, MaxVersion: maxVersion, QueueId: opts.QueueID + "x", SpoolDir: []byte(filepath.Join(p.dir, "x"))}
	ss, err := openSession(filepath.Join(p.runtime(), socketName), h)
	must(t, err)
	defer ss.nc.Close()
	hd, _ := decodeHandle(tk.Status().Handle)
	must(t, ss.send(stopMessage([]task.Ref{tk.Ref()}, []*supervisorpb.Known{known{handle: hd}.message(tk.Ref())})))
	for {
		m, err := ss.receive()
		must(t, err)
		for _, r := range m.GetReports().GetReports() {
			if end := r.GetEnd(); end != nil {
				if r.GetPid() != hd.PID || end.GetKind() == supervisorpb.End_KIND_NOT_BEGUN || inSession(t, int(hd.PID)) > 0 {
					t.Fatalf("report %v", r)
				}
				return
			}
		}
	}
}

// An end that nobody saw, not even a journal, is said to be one.
func TestLostJournalAndEnd(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	tk := assigned(t, 1, counted(p, "sleep 1000"))
	d.launch(tk)
	tk = runningAs(t, tk, d)
	poll(t, "the first word of the task", func() bool { return fileSize(filepath.Join(p.dir, "ran")) > 0 })
	d.stop()
	p.loseJournal(t, d)
	h, _ := decodeHandle(tk.Status().Handle)
	must(t, unix.Kill(int(h.PID), unix.SIGKILL))
	poll(t, "the end of the task and of its zombie", func() bool {
		_, there := lookup(int(h.PID))
		return !there
	})
	d = p.daemon(t, opts, tk)
	ev := d.end(tk.Ref()).Event
	if ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "its end was not seen") {
		t.Fatalf("event %+v", ev)
	}
	p.ranOnce(t)
}

// A handle whose pid belongs to somebody else by now harms nobody.
func TestHandleOfAnotherProcess(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	other := assigned(t, 1, sh("sleep 1000"))
	d.launch(other)
	other = runningAs(t, other, d)
	h, _ := decodeHandle(other.Status().Handle)
	h.Start, h.Until = h.Start-1000, h.Start-900
	tk := apply(t, assigned(t, 2, sh("true")), task.Event{Kind: task.EventLaunched, Attempt: 1, Handle: h.encode()})
	d.stop()
	d = p.daemon(t, opts, other, tk)
	must(t, d.Stop(t.Context(), tk))
	d.end(tk.Ref())
	if inSession(t, int(h.PID)) == 0 {
		t.Fatal("somebody else's process was ended")
	}
	must(t, d.Stop(t.Context(), other))
	d.end(other.Ref())
}

// A cgroup that we have made ourselves is nobody else's, whatever a journal says.
func TestCgroupIsNotAdoptedTwice(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "1")
	must(t, os.Mkdir(old, 0o700))
	must(t, os.WriteFile(filepath.Join(old, "cgroup.events"), []byte("populated 1\n"), 0o600))
	c := &cgroups{dir: dir}
	c.sweep()
	if c.adopt(filepath.Join(dir, "2")) != nil {
		t.Error("one was adopted that was not there when we began")
	}
	g := c.adopt(old)
	if g == nil {
		t.Fatal("one that is in use was not adopted")
	}
	defer g.remove()
	if c.adopt(old) != nil {
		t.Error("one was adopted twice")
	}
}
