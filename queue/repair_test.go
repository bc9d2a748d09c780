package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// snapshotOf returns all that the queue answers about its tasks.
func snapshotOf(t testing.TB, dir string) map[task.Seq]string {
	t.Helper()
	out, err := readTasks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// readTasks returns each task in whole, as text.
func readTasks(dir string) (out map[task.Seq]string, err error) {
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	out = map[task.Seq]string{}
	for before := task.Seq(0); ; {
		page, next, err := q.List(task.Filter{Limit: 1000, Before: before})
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			if out[t.Seq], err = textOf(q, t.Seq); err != nil {
				return nil, err
			}
		}
		if before = next; next == 0 {
			return out, nil
		}
	}
}

func textOf(q *queue.Queue, seq task.Seq) (string, error) {
	t, err := q.Get(seq)
	if err != nil {
		return "", err
	}
	r, err := q.Result(seq)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"spec": t.Spec, "digest": t.Spec.Digest(), "status": t.Status(), "result": r})
	return string(text), err
}

func verifySound(t *testing.T, dir string) queue.Verified {
	t.Helper()
	v, err := queue.Verify(context.Background(), queue.Options{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range v.Findings {
		t.Errorf("found in %s: %s", dir, f)
	}
	return v
}

// TestRepairOfSound: of a database of which nothing is wrong, repair makes one with
// the same in it.
func TestRepairOfSound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeSpoilable(t, dir)
	for _, name := range []string{"small", "unlisted", "ids"} {
		at := filepath.Join(dir, name)
		before := verifySound(t, at)
		want := snapshotOf(t, at)
		original, err := os.ReadFile(dbPath(at))
		if err != nil {
			t.Fatal(err)
		}
		got, err := queue.Repair(context.Background(), queue.Options{Dir: at}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Findings) != 0 || got.Held != 0 || got.NewID || got.Holdings != before.Holdings {
			t.Errorf("%s: repaired %+v, was %+v", name, got, before)
		}
		kept, err := os.ReadFile(got.Former)
		if err != nil || !bytes.Equal(kept, original) {
			t.Errorf("%s: the former database is not as it was (%v)", name, err)
		}
		verifySound(t, at)
		compareTasks(t, want, snapshotOf(t, at))
	}
}

func compareTasks(t *testing.T, want, got map[task.Seq]string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%d tasks, want %d", len(got), len(want))
	}
	for seq, text := range want {
		if got[seq] != text {
			t.Errorf("task %d is\n%s\nand was\n%s", seq, got[seq], text)
		}
	}
}

// repairSpoiled verifies and repairs a database that was spoiled, and compares what
// is left with what there was.
func (s *spoiled) repairSpoiled(want map[task.Seq]string) (end string, err error) {
	ctx, opts := context.Background(), queue.Options{Dir: s.dir}
	v, err := queue.Verify(ctx, opts, nil)
	if task.CodeOf(err) == task.CodeUnsupported {
		return "another schema", nil
	}
	if err != nil {
		return "", fmt.Errorf("verify: %w", err)
	}
	r, err := queue.Repair(ctx, opts, nil)
	switch {
	case err == nil:
	case errors.Is(err, queue.ErrNothingLeft):
		return "nothing left", nil
	case task.CodeOf(err) == task.CodeUnsupported:
		return "another schema", nil
	default:
		return "", fmt.Errorf("repair: %w", err)
	}
	after, err := queue.Verify(ctx, opts, nil)
	if err != nil {
		return "", err
	}
	if len(after.Findings) > 0 {
		return "", fmt.Errorf("after the repair: %v", after.Findings)
	}
	if len(v.Findings) == 0 && len(r.Findings) > 0 {
		return "", fmt.Errorf("verify found nothing, and repair %v", r.Findings)
	}
	if r.Held > r.Unfinished {
		return "", fmt.Errorf("%d tasks are said to be held, and %d have not ended", r.Held, r.Unfinished)
	}
	got, err := readTasks(s.dir)
	if err != nil {
		return "", err
	}
	return s.compare(want, got, r)
}

// compare: each task is as it was, or named.
func (s *spoiled) compare(want, got map[task.Seq]string, r queue.Repaired) (end string, err error) {
	named := map[task.Seq]bool{}
	missing := func(task.Seq) bool { return false }
	for _, f := range r.Findings {
		if f.Last == 0 && !f.Above {
			named[f.Seq] = true
			continue
		}
		before := missing
		missing = func(seq task.Seq) bool { return before(seq) || f.Seq <= seq && (f.Above || seq <= f.Last) }
	}
	var errs []error
	for seq, text := range want {
		switch now, there := got[seq]; {
		case there && now == text, named[seq], !there && missing(seq):
		case there && strings.Contains(now, `"Held":"`) && strings.Contains(now, "damaged database"):
			if r.Held == 0 {
				errs = append(errs, fmt.Errorf("task %d is held, and nobody is told", seq))
			}
		case there && strings.Contains(now, "lost"): // it waited for one that is lost, or the newest state is
			if len(r.Findings) == 0 {
				errs = append(errs, fmt.Errorf("task %d has changed, and nothing is said: %s", seq, now))
			}
		default:
			errs = append(errs, fmt.Errorf("task %d was\n%s\nand is\n%s\nfindings: %v", seq, text, now, r.Findings))
		}
	}
	for seq := range got {
		if _, was := want[seq]; !was {
			errs = append(errs, fmt.Errorf("task %d was not there before: %s", seq, got[seq]))
		}
	}
	end = "repaired without loss"
	if len(r.Findings) > 0 {
		end = "repaired with losses"
	}
	return end, errors.Join(errs...)
}
