package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func init() { roles["opener"] = opener } //nolint:gochecknoinits // the table of roles is what it adds to

const roundsEnv = "DSPY_QUEUE_TEST_ROUNDS"

// roundsOf is how many rounds a race has: as many, a tenth in short tests, or a
// thousand.
func roundsOf(n int) int {
	switch {
	case os.Getenv("DSPY_TEST_FULL") != "":
		return 1000
	case testing.Short():
		return n / 10
	default:
		return n
	}
}

// raceOpeners runs a process for each path of one directory, which opens and closes
// the queue again and again, and fails if another has it open at the same time.
func raceOpeners(t *testing.T, rounds int, paths ...string) {
	t.Helper()
	var g errgroup.Group
	for i, path := range paths {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"=opener", childDirEnv+"="+path, roundsEnv+"="+strconv.Itoa(rounds), "OPENER="+strconv.Itoa(i))
		cmd.Stderr = os.Stderr
		g.Go(cmd.Run)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func opener(dir string) error {
	rounds, err := strconv.Atoi(os.Getenv(roundsEnv))
	if err != nil {
		return err
	}
	for i := range rounds {
		if err := openOnce(dir, fmt.Sprint(os.Getenv("OPENER"), "-", i)); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return nil
}

// openOnce opens the queue, stores a task, and closes it. A file that is there as
// long as the queue is open tells whether somebody else is in it.
func openOnce(dir, id string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	q, err := queue.Open(ctx, queue.Options{Dir: dir, LockTimeout: 30 * time.Second}.WithTerms(queue.Terms{
		Beat: 5 * time.Millisecond, Confirm: 20 * time.Millisecond, Watch: time.Minute, Grace: time.Second,
	}))
	if err != nil {
		return err
	}
	inside := filepath.Join(dir, "inside")
	f, err := os.OpenFile(inside, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("two are in it: %w", err)
	}
	_, err = q.Submit(ctx, []*task.Spec{spec(id)})
	return errors.Join(err, f.Close(), os.Remove(inside), q.Close())
}

// checkRaced: all tasks are there, and the event log has as many owners, in order.
func checkRaced(t *testing.T, dir string, want int) {
	t.Helper()
	q := openQueue(t, queue.Options{Dir: dir})
	if got := q.Counts().Total(task.Pending); got != want {
		t.Errorf("%d tasks are there, and %d were stored", got, want)
	}
	records, err := q.Records(0, want+1)
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for _, r := range records {
		if r.Fence <= last {
			t.Errorf("event %d was written by owner %d after one by owner %d", r.Index, r.Fence, last)
		}
		last = r.Fence
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*owner*")); len(left) != 2 { // owner.json and owner.beat
		t.Errorf("there are %v", left)
	}
}

// TestOpenersRace: two processes on one host.
func TestOpenersRace(t *testing.T) {
	t.Parallel()
	rounds := roundsOf(200)
	dir := t.TempDir()
	raceOpeners(t, rounds, dir, dir)
	checkRaced(t, dir, 2*rounds)
}

// TestSuccessorsRace: several find the same dead owner, or none, at the same moment,
// on a server whose locks lie. One gets in.
func TestSuccessorsRace(t *testing.T) {
	t.Parallel()
	rounds := roundsOf(60)
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	paths := make([]string, 3) // each a mount of its own, with locks of its own
	for i := range paths {
		paths[i] = mountFaulty(t, dir, faults{})
	}
	dead := deadHere(t)
	for i := range rounds {
		if i%2 == 0 { // else there is nobody
			writeOwnerFile(t, dir, dead)
		}
		succeedOnce(t, paths)
	}
}

// deadHere is an owner that ran on this host and is gone.
func deadHere(t *testing.T) queue.Owner {
	t.Helper()
	scratch := t.TempDir()
	q := openQueue(t, queue.Options{Dir: scratch})
	o, _ := readOwnerFile(t, scratch)
	closeQueue(t, q)
	o.StartTicks++ // another process than ours
	return o
}

// succeedOnce opens by all paths at once; one has to get in, and the others not while
// it is.
func succeedOnce(t *testing.T, paths []string) {
	t.Helper()
	var g sync.WaitGroup
	queues := make([]*queue.Queue, len(paths))
	errs := make([]error, len(paths))
	for i, path := range paths {
		g.Go(func() {
			queues[i], errs[i] = queue.Open(context.Background(), queue.Options{Dir: path, LockTimeout: time.Millisecond})
		})
	}
	g.Wait()
	in := 0
	for i, q := range queues {
		switch {
		case q != nil:
			in++
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		case !errors.Is(errs[i], queue.ErrLocked):
			t.Errorf("who did not get in is told: %v", errs[i])
		}
	}
	if in != 1 {
		t.Errorf("%d got in", in)
	}
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
