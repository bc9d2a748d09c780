package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// A pool runs so many at a time, in order, and takes a new limit at once.
func TestPool(t *testing.T) {
	p := newPlace(t)
	limit := 1
	opts := p.options("q")
	opts.Pool = func(task.Task) (string, int) { return "short", limit }
	d := p.daemon(t, opts)
	gate, order := filepath.Join(p.dir, "gate"), filepath.Join(p.dir, "order")
	var tasks []task.Task
	for seq := task.Seq(1); seq <= 5; seq++ {
		tasks = append(tasks, assigned(t, seq, sh(fmt.Sprintf("echo %d >> %s; ", seq, order)+waitFor(gate))))
	}
	d.launch(tasks...)
	d.await(tasks[0].Ref(), task.EventStarted)
	// One that waits can be taken back without ever becoming a process.
	must(t, d.Stop(t.Context(), tasks[4]))
	if ev := d.end(tasks[4].Ref()).Event; ev.Kind != task.EventStopped {
		t.Fatalf("event %+v", ev)
	}
	if got := d.count(task.EventStarted); got != 1 {
		t.Fatalf("%d run, want 1", got)
	}
	poll(t, "the first word of the first", func() bool { return fileSize(order) > 0 })
	limit = 3
	d.launch(tasks[0]) // a repeat starts nothing and brings the new limit
	d.await(tasks[1].Ref(), task.EventStarted)
	d.await(tasks[2].Ref(), task.EventStarted)
	if got := d.count(task.EventStarted); got != 3 {
		t.Fatalf("%d run, want 3", got)
	}
	openGate(t, gate)
	for _, tk := range tasks[:4] {
		d.end(tk.Ref())
	}
	b, err := os.ReadFile(order)
	must(t, err)
	if !strings.HasPrefix(string(b), "1\n") || len(bytes.Fields(b)) != 4 {
		t.Fatalf("order %q", b)
	}
}

func (d *daemon) count(kind task.EventKind) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, cs := range d.events {
		for _, c := range cs {
			if c.Event.Kind == kind {
				n++
			}
		}
	}
	return n
}

// Two queues share the supervisor, start it at the same moment, and do not see
// one another, though their attempts bear the same numbers.
func TestQueuesShareASupervisor(t *testing.T) {
	p := newPlace(t)
	a, b := p.daemon(t, p.options("a")), p.daemon(t, p.options("b"))
	ta, tb := assigned(t, 1, sh("sleep 1000")), assigned(t, 1, sh("sleep 1000"))
	a.launch(ta)
	b.launch(tb)
	a.await(ta.Ref(), task.EventStarted)
	b.await(tb.Ref(), task.EventStarted)
	must(t, a.Stop(t.Context(), ta))
	a.end(ta.Ref())
	b.mu.Lock()
	got := kindsOf(b.events[tb.Ref()])
	b.mu.Unlock()
	if len(got) != 2 {
		t.Fatalf("the other queue's task: %v", got)
	}
	must(t, b.Stop(t.Context(), tb))
	b.end(tb.Ref())
}

func TestManyStartersOneSupervisor(t *testing.T) {
	p := newPlace(t)
	f := supervisorFlags{runtimeDir: p.runtime(), logFile: defaultLog(p.runtime()), idle: time.Minute}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := startSupervisor(context.Background(), "/proc/self/exe", f); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(defaultLog(p.runtime()))
	must(t, err)
	if n := strings.Count(string(b), "supervisor started"); n != 1 {
		t.Fatalf("%d supervisors started:\n%s", n, b)
	}
}

func TestIdleSupervisorLeaves(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.Idle = time.Second // long enough to connect on a busy machine
	d := p.daemon(t, opts)
	tk := assigned(t, 1, argv("true"))
	d.launch(tk)
	d.end(tk.Ref())
	must(t, d.Forget(t.Context(), []task.Ref{tk.Ref()}))
	pid := p.supervisorPid(t)
	waitGone(t, pid, d.stop)
}

// An end that no queue has taken over keeps the supervisor.
func TestUnacknowledgedEndKeepsSupervisor(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	tk := assigned(t, 1, sh("exit 4"))
	d.launch(tk)
	d.end(tk.Ref())
	d.stop()
	d = p.daemon(t, opts, apply(t, tk, task.Event{Kind: task.EventLaunched, Attempt: 1}))
	if ev := d.end(tk.Ref()).Event; ev.Outcome.ExitCode != 4 {
		t.Fatalf("event %+v", ev)
	}
	if got := kindsOf(d.events[tk.Ref()]); strings.Join(got, " ") != "launched started exited" {
		t.Fatalf("events %v", got)
	}
}

func TestVersionsThatDoNotMeet(t *testing.T) {
	p := newPlace(t)
	p.daemon(t, p.options("q")).connected()
	h := &supervisorpb.Hello{MinVersion: maxVersion + 1, MaxVersion: maxVersion + 3, QueueId: "x", SpoolDir: []byte(p.dir)}
	_, err := openSession(filepath.Join(p.runtime(), socketName), h)
	if !errors.Is(err, errRefused) {
		t.Fatalf("error %v", err)
	}
	if text := err.Error(); !strings.Contains(text, fmt.Sprintf("kill %d", p.supervisorPid(t))) {
		t.Fatalf("it does not say what to do: %s", text)
	}
}

// A newer client may add fields and messages.
func TestUnknownMessagesAreTolerated(t *testing.T) {
	p := newPlace(t)
	p.daemon(t, p.options("q")).connected()
	h := &supervisorpb.Hello{MinVersion: minVersion, MaxVersion: maxVersion + 5, QueueId: "x", SpoolDir: []byte(filepath.Join(p.dir, "x"))}
	h.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01}) // field 127
	ss, err := openSession(filepath.Join(p.runtime(), socketName), h)
	must(t, err)
	defer ss.nc.Close()
	strange := &supervisorpb.ToSupervisor{}
	strange.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01})
	must(t, ss.send(strange))
	must(t, ss.send(stopMessage([]task.Ref{{Seq: 1, Attempt: 1}}, nil)))
	for {
		m, err := ss.receive()
		must(t, err)
		if rs := m.GetReports().GetReports(); len(rs) == 1 && rs[0].GetEnd() != nil {
			return
		}
	}
}

// Output beyond the cap loses its middle while the program runs on.
func TestOutputCap(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.LogCap = 1 << 20
	d := p.daemon(t, opts)
	gate := filepath.Join(p.dir, "gate")
	tk := assigned(t, 1, sh("head -c 6000000 /dev/zero | tr '\\0' x; echo; "+waitFor(gate)+"echo end"))
	d.launch(tk)
	path := d.Layout().LogPath(tk.Ref())
	poll(t, "the cut", func() bool {
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil && st.Size >= 6_000_000 && st.Blocks*512 <= 1<<20
	})
	openGate(t, gate)
	d.end(tk.Ref())
	got := readLog(t, path)
	if !strings.Contains(got, "MiB dropped ...]") || !strings.HasSuffix(got, "x\nend\n") {
		t.Fatalf("%d bytes, end %q", len(got), got[len(got)-20:])
	}
}

// A program starts as from a clean shell: no signal blocked or ignored, umask
// and nice level as asked, in a session of its own, with no file of ours open.
func TestTaskStartsClean(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.Nice = 3
	d := p.daemon(t, opts)
	tk := assigned(t, 1, sh(`grep -E '^Sig(Blk|Ign)' /proc/self/status; nice; ls /proc/self/fd | wc -w; cut -d' ' -f5,6 /proc/$$/stat; echo $$`))
	d.launch(tk)
	d.end(tk.Ref())
	b, err := os.ReadFile(d.Layout().LogPath(tk.Ref()))
	must(t, err)
	f := strings.Fields(string(b))
	if len(f) != 9 {
		t.Fatalf("it began as\n%s", b)
	}
	ignored, err := strconv.ParseUint(f[3], 16, 64)
	must(t, err)
	// 32 and 33 belong to the C library of whoever started all this: Go lets nobody
	// change what it inherits for them.
	ignored &^= 1<<31 | 1<<32
	if strings.Trim(f[1], "0") != "" || ignored != 0 || f[4] != "3" || f[5] != "4" || f[6] != f[8] || f[7] != f[8] {
		t.Fatalf("it began as\n%s", b)
	}
}

func TestScriptWithoutInterpreterLine(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	must(t, os.WriteFile(filepath.Join(p.dir, "script"), []byte("exit $1\n"), 0o700))
	s := argv("./script", "6")
	s.Dir = p.dir
	tk := assigned(t, 1, s)
	d.launch(tk)
	if ev := d.end(tk.Ref()).Event; ev.Outcome.ExitCode != 6 {
		t.Fatalf("event %+v", ev)
	}
}

// readLog reads an output as people do who ask for it.
func readLog(t *testing.T, path string) string {
	t.Helper()
	l, err := taskfiles.OpenLog(path)
	must(t, err)
	defer l.Close()
	var out strings.Builder
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		n, next, err := l.Read(buf, off)
		out.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		must(t, err)
		off = next
	}
}
