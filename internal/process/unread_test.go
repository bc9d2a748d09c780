package process

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// failOpening has the opening of files with that suffix fail, so many times.
func failOpening(t *testing.T, suffix string, err error, times int64) *atomic.Int64 {
	t.Helper()
	old := taskfiles.OpenFile
	t.Cleanup(func() { taskfiles.OpenFile = old })
	left := &atomic.Int64{}
	left.Store(times)
	taskfiles.OpenFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
		if strings.HasSuffix(path, suffix) && left.Add(-1) >= 0 {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return old(path, flag, mode)
	}
	return left
}

// A result that cannot be read for a while is no bad result: the end is told
// when it could be read, and others do not wait for that.
func TestResultThatCannotBeReadForAWhile(t *testing.T) {
	marked := sh(`echo '` + taskfiles.ResultMarker + `{"n": 2}'`)
	for _, c := range []struct {
		suffix string
		err    error
		spec   task.Spec
		want   string
	}{
		{".result.json", unix.EMFILE, sh(`echo '{"n": 1}' > $DSPY_RESULT_FILE`), `{"n": 1}`},
		{".result.json", unix.ENFILE, sh(`echo '{"n": 1}' > $DSPY_RESULT_FILE; exit 3`), `{"n": 1}`},
		{".result.json", unix.EINTR, sh(`echo '{"n": 1}' > $DSPY_RESULT_FILE`), `{"n": 1}`},
		{".log", unix.ESTALE, marked, `{"n": 2}`},
		{".log", unix.EIO, marked, `{"n": 2}`},
	} {
		t.Run(fmt.Sprintf("%v %s", c.err, c.suffix), func(t *testing.T) {
			p := newPlace(t)
			left := failOpening(t, c.suffix, c.err, 1<<40)
			d := p.daemon(t, p.options("q"))
			tk, other := assigned(t, 1, c.spec), assigned(t, 2, sh("kill -9 $$"))
			d.launch(tk)
			poll(t, "the first look at the result", func() bool { return left.Load() < 1<<40 })
			left.Store(3)
			d.launch(other)
			got := d.end(tk.Ref())
			if strings.TrimSpace(string(got.Result)) != c.want || got.Event.Kind != task.EventExited || got.Event.Outcome.Message != "" {
				t.Errorf("event %+v, result %q, want %q", got.Event, got.Result, c.want)
			}
			d.end(other.Ref())
			if kinds := kindsOf(d.events[tk.Ref()]); strings.Join(kinds, " ") != "launched started exited" {
				t.Errorf("events %v", kinds)
			}
		})
	}
}

// One that can never be read ends the attempt all the same, and says why.
func TestResultThatCanNeverBeRead(t *testing.T) {
	p := newPlace(t)
	old := resultPatience
	resultPatience = 300 * time.Millisecond
	failOpening(t, ".result.json", unix.EIO, 1<<40)
	d := p.daemon(t, p.options("q"))
	t.Cleanup(func() { d.stop(); resultPatience = old })
	tk := assigned(t, 1, argv("true"))
	d.launch(tk)
	o := d.end(tk.Ref()).Event.Outcome
	if o.Class != task.Vanished || !strings.Contains(o.Message, "input/output error") || !strings.Contains(o.Message, "retry the task") {
		t.Fatalf("outcome %+v", o)
	}
}

// A daemon that is killed while it cannot read a result leaves the end to the
// next one.
func TestUnreadResultOutlivesTheDaemon(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	left := failOpening(t, ".result.json", unix.EMFILE, 1<<40)
	d := p.daemon(t, opts)
	tk := assigned(t, 1, sh(`echo '{"n": 1}' > $DSPY_RESULT_FILE`))
	d.launch(tk)
	poll(t, "the first look at the result", func() bool { return left.Load() < 1<<40 })
	tk = runningAs(t, tk, d)
	d.stop()
	if got := d.count(task.EventExited); got != 0 {
		t.Fatalf("%d ends were told without a result", got)
	}
	left.Store(0)
	d = p.daemon(t, opts, tk)
	if got := d.end(tk.Ref()); strings.TrimSpace(string(got.Result)) != `{"n": 1}` {
		t.Fatalf("result %q, event %+v", got.Result, got.Event)
	}
}

// An end that is held back counts, whatever a supervisor says that has lost its
// journal, or does not say.
func TestUnreadResultOutlivesTheJournal(t *testing.T) {
	ref := task.Ref{Seq: 1, Attempt: 1}
	for what, reports := range map[string][]*supervisorpb.Report{
		"says nothing":   nil,
		"saw no end":     {{Name: nameOf(ref), Phase: supervisorpb.Report_PHASE_ENDED, Pid: 7, End: vanished("its end was not seen")}},
		"begins to look": {{Name: nameOf(ref), Phase: supervisorpb.Report_PHASE_RUNNING, Pid: 7}},
	} {
		t.Run(what, func(t *testing.T) {
			b, err := New(newPlace(t).options("q"))
			must(t, err)
			must(t, b.layout.Prepare(ref))
			must(t, os.WriteFile(b.layout.ResultPath(ref), []byte(`{"n": 1}`), 0o600))
			left := failOpening(t, ".result.json", unix.EMFILE, 1<<40)
			var got []task.Change
			deliver := func(cs []task.Change) { got = append(got, cs...) }
			first, second := &session{origin: origin{where: b.id}}, &session{origin: origin{where: b.id}}
			b.takeAndTell(first, &supervisorpb.Reports{Reports: []*supervisorpb.Report{{
				Name: nameOf(ref), Phase: supervisorpb.Report_PHASE_ENDED, Pid: 7,
				End: &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED, Unprompted: true},
			}}}, nil, deliver)
			b.takeAndTell(second, &supervisorpb.Reports{Reports: reports, SnapshotDone: true}, snapshot{}, deliver)
			left.Store(0)
			for _, e := range b.unread.ends {
				b.tellUnreadEnd(e, deliver)
			}
			if kinds := strings.Join(kindsOf(got), " "); kinds != "launched started exited" || string(got[2].Result) != `{"n": 1}` {
				t.Fatalf("told %s: %+v", kinds, got)
			}
		})
	}
}
