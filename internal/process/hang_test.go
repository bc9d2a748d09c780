package process

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A FIFO is a file system that does not answer: it cannot be opened for writing
// before somebody reads, nor read to its end while it is open for writing.

// Tasks that hang before they are processes hold up neither others of their
// queue nor other queues.
func TestHangingStartsHoldUpNobody(t *testing.T) {
	p := newPlace(t)
	a, b := p.daemon(t, p.options("a")), p.daemon(t, p.options("b"))
	var hanging []task.Task
	var logs []string
	for seq := task.Seq(1); seq <= 2*maxForking; seq++ {
		tk := assigned(t, seq, argv("true"))
		path := a.Layout().LogPath(tk.Ref())
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, unix.Mkfifo(path, 0o600))
		hanging, logs = append(hanging, tk), append(logs, path)
	}
	a.launch(hanging...)
	other, same := assigned(t, 1, argv("true")), assigned(t, 1000, argv("true"))
	b.launch(other)
	begin := time.Now()
	b.end(other.Ref())
	if took := time.Since(begin); took > 10*stuckAfter { // each of the hanging ones would hold it up for one
		t.Errorf("a task of another queue took %s", took)
	}
	a.launch(same)
	a.end(same.Ref())
	for i, path := range logs {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		must(t, err)
		a.end(hanging[i].Ref())
		must(t, unix.Close(fd))
	}
}

// A journal that cannot be read to its end holds up the queue it belongs to.
func TestHangingJournalIsAlone(t *testing.T) {
	p := newPlace(t)
	t.Cleanup(func() { p.signalSupervisor(t, unix.SIGKILL) }) // it would wait for a while
	opts := p.options("a")
	b, err := New(opts)
	must(t, err)
	must(t, os.MkdirAll(b.spool, 0o700))
	must(t, unix.Mkfifo(filepath.Join(b.spool, journalName), 0o600))
	p.watch(t, b, map[task.Ref][]task.Change{})
	poll(t, "the supervisor", func() bool { return p.supervisorPid(t) != 0 })
	poll(t, "a look at the journal", func() bool {
		_, err := os.Stat(filepath.Join(b.spool, journalName+".lock"))
		return err == nil
	})
	d := p.daemon(t, p.options("b"))
	tk := assigned(t, 1, argv("true"))
	d.launch(tk)
	d.end(tk.Ref())
}

// slowFile answers when it is told to.
type slowFile struct {
	journalFile
	asked    chan struct{}
	released chan struct{}
}

func (f *slowFile) Write(b []byte) (int, error) {
	f.asked <- struct{}{}
	<-f.released
	return f.journalFile.Write(b)
}

// While a journal is being written nobody else waits: not for the supervisor's
// mutex, nor for another journal. What waits for the record waits on.
func TestSlowJournalHoldsUpItsQueueAlone(t *testing.T) {
	s := &supervisor{log: slog.New(slog.DiscardHandler), queues: map[string]*queue{}, keeper: newWaker(), ender: newWaker()}
	slow, fast := testQueue(t, s, "slow"), testQueue(t, s, "fast")
	f := &slowFile{journalFile: slow.journal.f, asked: make(chan struct{}), released: make(chan struct{})}
	slow.journal.f = f
	var order []string
	add := func(q *queue, what string, must bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := newAttempt(q, name(1), &supervisorpb.Claim{})
		q.record(a, a.claim, sequel{must: must, do: func() { order = append(order, what) }})
	}
	add(slow, "slow claim", true)
	add(slow, "slow end", false)
	done := make(chan struct{})
	go func() { defer close(done); s.flush(slow, false) }()
	<-f.asked
	add(fast, "fast claim", true)
	s.flush(fast, false)
	s.mu.Lock()
	slow.overdue(bootNow().add(sequelPatience))
	s.mu.Unlock()
	add(slow, "second claim", true)
	s.flush(slow, false) // leaves it to the one that writes
	f.released <- struct{}{}
	<-f.asked
	f.released <- struct{}{}
	<-done
	want := []string{"fast claim", "slow end", "slow claim", "second claim"}
	if !slices.Equal(order, want) {
		t.Fatalf("order %q, want %q", order, want)
	}
}

func testQueue(t *testing.T, s *supervisor, id string) *queue {
	t.Helper()
	j, _ := reopen(t, filepath.Join(t.TempDir(), id))
	q := &queue{id: id, journal: j, attempts: map[task.Ref]*attempt{}, clerk: newWaker()}
	s.queues[id] = q
	return q
}

// A program may put a FIFO in the place of its output. Whoever adopts the task
// does not wait for somebody to read from that.
func TestOutputThatBecameAFIFO(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	gate := filepath.Join(p.dir, "gate")
	tk := assigned(t, 1, sh(waitFor(gate)+"exit 7"))
	d.launch(tk)
	d.await(tk.Ref(), task.EventStarted)
	path := d.Layout().LogPath(tk.Ref())
	must(t, os.Remove(path))
	must(t, unix.Mkfifo(path, 0o600))
	first := p.supervisorPid(t)
	p.signalSupervisor(t, unix.SIGKILL)
	p.awaitSupervisor(t, first)
	d.connected()
	openGate(t, gate)
	d.end(tk.Ref())
}

// A supervisor leaves although a journal cannot be written.
func TestLeavingWaitsForNoFileSystem(t *testing.T) {
	s := bareSupervisor(t)
	slow, fast := testQueue(t, s, "slow"), testQueue(t, s, "fast")
	f := &slowFile{journalFile: slow.journal.f, asked: make(chan struct{}, 1), released: make(chan struct{})}
	slow.journal.f = f
	slow.journal.add(name(1), &supervisorpb.Claim{})
	fast.journal.add(name(1), &supervisorpb.Claim{})
	s.leaveFD, s.needFD = -1, -1
	if s.ownEnd(100 * time.Millisecond) {
		t.Error("it wrote what cannot be written")
	}
	<-f.asked
	poll(t, "the other journal", func() bool { return fileSize(filepath.Join(fast.journal.dir, journalName)) > 0 })
	close(f.released)
	poll(t, "the locks of the one that left", func() bool {
		lock, err := host.Lock(filepath.Join(slow.journal.dir, lockFileName))
		return err == nil && lock.Close() == nil
	})
}

// While the journals of earlier boots are read for one client, others are told to
// come again; where that takes for ever, they go on without.
func TestHungAdoptionIsOne(t *testing.T) {
	s := bareSupervisor(t)
	q := testQueue(t, s, "q")
	h := &supervisorpb.Hello{QueueId: q.id, SpoolDir: []byte(q.journal.dir)}
	if !s.beginAdopting(q) {
		t.Fatal("nobody reads, and it may not be read")
	}
	if _, err := s.queueOf(h); !errors.Is(err, errOpening) {
		t.Errorf("error %v", err)
	}
	q.adopting = bootNow().add(-helloPatience)
	if got, err := s.queueOf(h); got != q || err != nil {
		t.Errorf("queue %p, error %v", got, err)
	}
	if s.beginAdopting(q) {
		t.Error("two read at a time")
	}
	s.endAdopting(q)
	if got, err := s.queueOf(h); got != q || err != nil || q.adopting != 0 {
		t.Errorf("queue %p, error %v, since %d", got, err, q.adopting)
	}
}
