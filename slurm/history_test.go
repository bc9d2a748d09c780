package slurm

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// scripted is a Slurm that says what a test wants.
type scripted struct {
	settings Settings
	queue    []Job
	queueErr error
	history  func(jobs []string) ([]Job, error)
	asked    [][]string // of sacct
	lists    int

	mu     sync.Mutex
	submit func(args []string) (string, error)
}

func (s *scripted) Submit(_ context.Context, _ []byte, args ...string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.submit == nil {
		return "", ErrUnanswered
	}
	return s.submit(args)
}

func (s *scripted) Cancel(context.Context, ...string) error    { return nil }
func (s *scripted) Settings(context.Context) (Settings, error) { return s.settings, nil }

func (s *scripted) Queue(context.Context, string) ([]Job, error) {
	s.lists++
	return s.queue, s.queueErr
}

func (s *scripted) History(_ context.Context, jobs ...string) ([]Job, error) {
	s.asked = append(s.asked, jobs)
	if s.history == nil {
		return nil, nil
	}
	return s.history(jobs)
}

// rounds is a backend of which a test does the rounds, by a clock of its own.
type rounds struct {
	*Backend
	t     *testing.T
	now   time.Time
	log   bytes.Buffer
	ended map[task.Seq]task.Event
}

func newRounds(t *testing.T, s Slurm) *rounds {
	t.Helper()
	r := &rounds{t: t, now: time.Now(), ended: map[task.Seq]task.Event{}}
	b, err := New(Options{QueueID: "q", TasksDir: filepath.Join(t.TempDir(), "tasks"), Slurm: s, Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Now: func() time.Time { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	r.Backend = b
	return r
}

// adopted adds attempts whose jobs have these numbers and records.
func (r *rounds) adopted(record func(seq task.Seq) string, seqs ...task.Seq) {
	r.t.Helper()
	for _, seq := range seqs {
		j := r.newJob(task.New(seq, &task.Spec{ID: "t", Argv: []string{"true"}, Dir: "/"}, 0))
		if err := os.MkdirAll(r.layout.JobDir(j.ref), 0o700); err != nil {
			r.t.Fatal(err)
		}
		for name, text := range map[string]string{recordFile: record(seq), intentFile: fmt.Sprintln(r.now.UnixNano()), jobsFile: fmt.Sprintln(200 + seq)} {
			if err := os.WriteFile(j.dir.path(name), []byte(text), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
		if err := j.recall(); err != nil {
			r.t.Fatal(err)
		}
		r.jobs[j.ref] = j
		r.touch(j)
	}
}

// pass does the rounds of a while, one every quarter of a second.
func (r *rounds) pass(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(250 * time.Millisecond) {
		var calls sync.WaitGroup
		r.round(r.t.Context(), &calls)
		calls.Wait()
		for len(r.results) > 0 {
			(<-r.results)()
		}
		for _, c := range r.out {
			if k := c.Event.Kind; k == task.EventExited || k == task.EventVanished || k == task.EventNotStarted || k == task.EventStopped {
				r.ended[c.Seq] = c.Event
			}
		}
		r.out = nil
	}
}

// TestHistory is the table of history.go, with what sacct said: nothing of it is asked where
// squeue or a record tells, or where there is no database.
func TestHistory(t *testing.T) {
	t.Parallel()
	past := parseHistory(recorded(t, "sacct", "history.txt"))
	if len(past) != 11 || past[5].State != "CANCELLED" || past[5].Nodes != "" || !past[5].Start.IsZero() {
		t.Fatalf("%+v", past)
	}
	history := func(ids []string) (out []Job, err error) {
		for _, j := range past {
			if slices.Contains(ids, j.ID) {
				out = append(out, j)
			}
		}
		return out, nil
	}
	mute := func(seq task.Seq) string { return fmt.Sprintf("start %d.0 g07 1700000000.5 -\n", 200+seq) }
	killed := func(seq task.Seq) string { return mute(seq) + fmt.Sprintf("exit %d.0 137 1700000009.5 -\n", 200+seq) }
	ended := func(seq task.Seq) string { return mute(seq) + fmt.Sprintf("exit %d.0 3 1700000009.5 -\n", 200+seq) }
	never := func(task.Seq) string { return "" }
	for _, c := range []struct {
		about      string
		record     func(task.Seq) string
		seq        task.Seq
		accounting bool
		queue      []Job
		class      task.FailureClass
		words      string
		asked      int
	}{
		{"a time limit", mute, 3, true, nil, task.Timeout, "at its time limit", 1},
		{"memory", killed, 4, true, nil, task.OutOfMemory, "more memory than it asked", 1},
		{"scancel by hand", killed, 5, true, nil, task.UserError, "was cancelled in Slurm", 1},
		{"scancel before it began", never, 6, true, nil, task.UserError, "was cancelled in Slurm", 1},
		{"a node", mute, 7, true, nil, task.Vanished, "a node of job 207 (g07) failed", 1},
		{"preemption", killed, 8, true, nil, task.Preempted, "more right to them", 1},
		{"no boot", never, 9, true, nil, task.CouldNotStart, "could not start job 209", 1},
		{"a database that is behind", mute, 10, true, nil, task.Vanished, "left no record", 1},
		{"a database that is behind, of one that was killed", killed, 10, true, nil, task.UserError, "", 1},
		{"a deadline", never, 11, true, nil, task.Timeout, "at its deadline", 1},
		{"success without a record is none", mute, 1, true, nil, task.Vanished, "left no record", 1},
		{"of which the database knows nothing", mute, 50, true, nil, task.Vanished, "left no record", 1},
		{"no database", mute, 3, false, nil, task.Vanished, "left no record", 0},
		{"no database, killed", killed, 4, false, nil, task.UserError, "", 0},
		{"an end of its own", ended, 2, true, nil, task.UserError, "", 0},
		{"squeue knows", killed, 4, true, []Job{{ID: "204", Name: "dspy-q-4-1", State: "PREEMPTED"}}, task.Preempted, "more right to them", 0},
	} {
		t.Run(c.about, func(t *testing.T) {
			t.Parallel()
			s := &scripted{settings: Settings{Version: "x", Accounting: c.accounting}, history: history, queue: c.queue}
			r := newRounds(t, s)
			r.adopted(c.record, c.seq)
			r.pass(time.Minute)
			ev, ok := r.ended[c.seq]
			class, text := ev.Class, ev.Text
			if ev.Kind == task.EventExited {
				class, text = ev.Outcome.Class, ev.Outcome.Message
				if class == task.NoFailure && (ev.Outcome.ExitCode != 0 || ev.Outcome.Signal != 0) {
					class = task.UserError
				}
			}
			if !ok || class != c.class || !strings.Contains(text, c.words) || len(s.asked) != c.asked {
				t.Errorf("it ended %t with %s, %q; sacct was asked %d times", ok, class, text, len(s.asked))
			}
		})
	}
}

// TestHistoryIsAway: a database that does not answer is asked twice, with a pause, and told
// once.
func TestHistoryIsAway(t *testing.T) {
	t.Parallel()
	s := &scripted{settings: Settings{Version: "x", Accounting: true}}
	r := newRounds(t, s)
	var at []time.Time
	s.history = func([]string) ([]Job, error) {
		at = append(at, r.now)
		return nil, fmt.Errorf("%w: the database is away", ErrUnanswered)
	}
	r.adopted(func(seq task.Seq) string { return fmt.Sprintf("start %d.0 g07 1700000000.5 -\n", 200+seq) }, 1, 2, 3)
	r.pass(time.Minute)
	if len(r.ended) != 3 || len(s.asked) != mostAsked || len(s.asked[0]) != 3 || strings.Count(r.log.String(), "sacct does not tell") != 1 {
		t.Fatalf("%d ended, sacct was asked %q\n%s", len(r.ended), s.asked, r.log.String())
	}
	if pause := at[1].Sub(at[0]); pause < askedAgain {
		t.Errorf("it was asked again after %s", pause)
	}
}

// TestNothingNewIsNothingToDo: of many jobs that run none is looked at between two
// calls of squeue, and those come seldom.
func TestNothingNewIsNothingToDo(t *testing.T) {
	t.Parallel()
	const jobs = 300
	s := &scripted{settings: Settings{Version: "x"}}
	r := newRounds(t, s)
	var seqs []task.Seq
	for seq := task.Seq(1); seq <= jobs; seq++ {
		seqs = append(seqs, seq)
		s.queue = append(s.queue, Job{ID: fmt.Sprint(200 + seq), Name: nameOf("q", task.Ref{Seq: seq, Attempt: 1}), State: "RUNNING", Nodes: "n1"})
	}
	r.adopted(func(seq task.Seq) string { return fmt.Sprintf("start %d.0 g07 1700000000.5 -\n", 200+seq) }, seqs...)
	r.pass(20 * time.Second)
	lists, settled := s.lists, r.settled
	r.pass(100 * time.Second) // 400 rounds
	lists, settled = s.lists-lists, r.settled-settled
	if lists < 8 || lists > 12 || settled > 3*jobs*lists {
		t.Errorf("squeue was called %d times, and %d times a job was looked at", lists, settled)
	}
	// One of them ends: it alone is looked at.
	before, at := r.settled, s.lists
	if err := os.WriteFile(r.jobs[task.Ref{Seq: 7, Attempt: 1}].dir.path(recordFile), []byte("start 207.0 g07 1700000000.5 -\nexit 207.0 0 1700000009.5 -\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.news.path, []byte("7-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.pass(250 * time.Millisecond)
	if _, ok := r.ended[7]; !ok || s.lists == at && r.settled-before > 2 {
		t.Errorf("it ended: %t, and %d were looked at", ok, r.settled-before)
	}
}

// TestTroubleIsToldOnce: what goes on for an hour is not in the log four times a second.
func TestTroubleIsToldOnce(t *testing.T) {
	t.Parallel()
	s := &scripted{settings: Settings{Version: "x"}}
	r := newRounds(t, s)
	r.adopted(func(seq task.Seq) string { return fmt.Sprintf("start %d.0 g07 1700000000.5 -\n", 200+seq) }, 1)
	j := r.jobs[task.Ref{Seq: 1, Attempt: 1}]
	s.queue = []Job{{ID: "201", Name: j.name, State: "RUNNING"}}
	r.pass(5 * time.Second)
	s.queueErr = fmt.Errorf("%w: squeue took longer than 25s", ErrUnanswered)
	// Neither the news nor the record can be read.
	for _, path := range []string{j.dir.path(recordFile), r.news.path} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.touch(j)
	j.reread()
	r.pass(9 * time.Minute)
	count := func(words string) int { return strings.Count(r.log.String(), words) }
	for _, words := range []string{"slurm does not answer", "cannot read the news of jobs", "cannot read the record of a job"} {
		if n := count(words); n != 1 {
			t.Errorf("%q was told %d times in nine minutes", words, n)
		}
	}
	s.queueErr = fmt.Errorf("%w: another word", ErrUnanswered)
	r.pass(2 * time.Minute)
	if n := count("slurm does not answer"); n != 2 {
		t.Errorf("a change was told %d times", n-1)
	}
	if r.Down() == "" {
		t.Error("it is not said to be down")
	}
	s.queueErr = nil
	r.pass(2 * time.Minute)
	if n := count("slurm answers"); n != 2 || r.Down() != "" {
		t.Errorf("that it is back was told %d times", n-1)
	}
}

func TestCauseOfATrouble(t *testing.T) {
	t.Parallel()
	var s saidBefore
	now := time.Now()
	full := func(name string) error {
		return fmt.Errorf("write: %w", &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC})
	}
	ref := task.Ref{Seq: 1, Attempt: 1}
	for i, want := range []bool{true, false, false} {
		if got := s.due(now, "claim", ref, full(fmt.Sprint("/q/claim.", i))); got != want {
			t.Errorf("%d: %t", i, got)
		}
	}
	if !s.due(now, "claim", ref, syscall.EROFS) || !s.due(now, "claim", task.Ref{Seq: 2}, full("x")) || !s.due(now.Add(sayAgain), "claim", ref, full("x")) {
		t.Error("another trouble, of another, or after a long time, is not told")
	}
	s.over(ref)
	if !s.due(now, "claim", ref, full("x")) {
		t.Error("what is over is remembered")
	}
	for i := range 3 * mostSaid {
		s.due(now, fmt.Sprint(i), ref, full("x"))
	}
	if len(s.at) > mostSaid {
		t.Errorf("%d are remembered", len(s.at))
	}
}
