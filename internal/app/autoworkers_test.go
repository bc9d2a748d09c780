package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// scriptedJobs is a Slurm that says what a test wants.
type scriptedJobs struct {
	askErr, submitErr error
	pending, working  []string
	asked             int
}

func (s *scriptedJobs) Named(context.Context, string) (pending, working []string, err error) {
	s.asked++
	return s.pending, s.working, s.askErr
}

func (s *scriptedJobs) SubmitWorker(context.Context, slurm.WorkerJob) (string, error) {
	if s.submitErr != nil {
		return "", s.submitErr
	}
	job := fmt.Sprint(100 + len(s.pending))
	s.pending = append(s.pending, job)
	return job, nil
}

func (s *scriptedJobs) Cancel(_ context.Context, jobs ...string) error {
	s.pending = slices.DeleteFunc(s.pending, func(j string) bool { return slices.Contains(jobs, j) })
	return nil
}

// auto is what submits workers for so many tasks, in a bubble of the test's own.
func auto(t *testing.T, client workerJobs, waiting *int) (w *autoWorkers, pass func(time.Duration)) {
	t.Helper()
	c := config.Default(t.TempDir())
	c.Workers.Max, c.Workers.Backlog = 2, 10
	w = &autoWorkers{
		conf: c, client: client, log: slog.New(slog.DiscardHandler), name: "w", program: "/x",
		waiting: func() int { return *waiting }, leave: func() int { return 0 }, confirm: func() error { return nil }, asked: time.Now(),
	}
	return w, func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := w.run(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestTroubleOfWorkersPasses: what is told is what tasks wait for now, and no error of
// former times.
func TestTroubleOfWorkersPasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := 100, &scriptedJobs{askErr: errors.New("the controller is away")}
		w, pass := auto(t, s, &n)
		want := func(words string) {
			t.Helper()
			if got := w.none(); !strings.Contains(got, words) {
				t.Errorf("%q is told, want %q", got, words)
			}
		}
		pass(time.Minute)
		want("the controller is away")
		s.askErr, s.pending = nil, []string{"1", "2"} // as many as there may be
		pass(time.Minute)
		want("0 worker jobs run, and 2 wait in Slurm")

		s.pending, s.submitErr = nil, &slurm.RefusedError{Text: "Invalid partition"}
		pass(time.Minute)
		want("Slurm refused a worker job: Invalid partition")
		n = 5 // too few for a job
		pass(time.Minute)
		want("one is submitted to Slurm when 10 tasks wait")
		n = 100
		pass(10 * time.Second)
		want("Invalid partition")
		s.pending = []string{"1", "2"} // somebody else's doing
		pass(time.Minute)
		want("2 wait in Slurm")
	})
}

// TestWorkersOfAFormerDaemon: jobs that wait, and that nothing waits for, are taken back
// after a restart, too; where there are none Slurm is left alone.
func TestWorkersOfAFormerDaemon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := 0, &scriptedJobs{pending: []string{"1", "2"}}
		_, pass := auto(t, s, &n)
		pass(2 * time.Second)
		if len(s.pending) != 2 {
			t.Error("jobs were cancelled before it could be known what waits")
		}
		pass(2 * time.Minute)
		if len(s.pending) > 0 {
			t.Errorf("%q wait for nothing", s.pending)
		}
		before := s.asked
		pass(time.Hour)
		if s.asked > before {
			t.Errorf("squeue was called %d times for nothing", s.asked-before)
		}
	})
}

// TestWorkerJobInDoubt: of a job that may have been submitted it is found out whether it is
// there, though nothing waits any more.
func TestWorkerJobInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, s := 15, &scriptedJobs{submitErr: errors.New("no answer")}
		_, pass := auto(t, s, &n)
		pass(10 * time.Second)
		n, s.pending = 0, []string{"7"}
		pass(2 * time.Minute)
		if len(s.pending) > 0 {
			t.Errorf("%q wait for nothing", s.pending)
		}
	})
}

// TestOutputsOfWorkersGo: after a while, but for those of jobs that are there.
func TestOutputsOfWorkersGo(t *testing.T) {
	t.Parallel()
	n, s := 0, &scriptedJobs{}
	w, _ := auto(t, s, &n)
	w.known, w.jobs = true, []string{"3"}
	if err := os.MkdirAll(w.outputs(), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, age := range map[string]time.Duration{"1.out": 8 * 24 * time.Hour, "2.out": time.Hour, "3.out": 8 * 24 * time.Hour, "notes": 8 * 24 * time.Hour} {
		path := filepath.Join(w.outputs(), name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	left := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(w.outputs())
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("left are %q, %v; want %q", got, err, want)
		}
	}
	w.sweep(now)
	left("2.out", "3.out", "notes")
	w.jobs = nil
	w.sweep(now.Add(time.Minute))
	left("2.out", "3.out", "notes") // not again so soon
	w.sweep(now.Add(2 * time.Hour))
	left("2.out", "notes")
}
