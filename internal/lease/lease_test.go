package lease_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func folder(t *testing.T) lease.Folder {
	t.Helper()
	f := lease.FolderOf(t.TempDir(), "worker12345678")
	if err := f.Make(lease.Card{CPUMilli: 1000}); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestClaimIsOnes: of the worker and the owner one has the claim, and both agree on whom.
func TestClaimIsOnes(t *testing.T) {
	t.Parallel()
	f := folder(t)
	for seq := task.Seq(1); seq <= 200; seq++ {
		ref := task.Ref{Seq: seq, Attempt: 1}
		var claimed, voided atomic.Bool
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { store(t, &claimed)(f.Claim(ref, 3)) })
			wg.Go(func() { store(t, &voided)(f.Void(ref, 3)) })
		}
		wg.Wait()
		if claimed.Load() == voided.Load() {
			t.Fatalf("task %d: claimed %t, voided %t", seq, claimed.Load(), voided.Load())
		}
		if f.Voided(ref, 3) != voided.Load() {
			t.Fatalf("task %d: voided %t, and it is said otherwise", seq, voided.Load())
		}
	}
}

func store(t *testing.T, into *atomic.Bool) func(bool, error) {
	return func(ok bool, err error) {
		if err != nil {
			t.Error(err)
		}
		if ok {
			into.Store(true)
		}
	}
}

// TestLedgerSurvivesATornLine: what was not written whole was never handed out.
func TestLedgerSurvivesATornLine(t *testing.T) {
	t.Parallel()
	f := folder(t)
	a, b, c := task.Ref{Seq: 1, Attempt: 1}, task.Ref{Seq: 2, Attempt: 3}, task.Ref{Seq: 3, Attempt: 1}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.Give(5, []task.Ref{a, b}))
	path := filepath.Join(f.Dir, "leases")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	check(err)
	_, err = file.WriteString("give 6 3-1 4-")
	check(err)
	check(file.Close())
	has, last, err := f.Ledger()
	check(err)
	if len(has) != 2 || has[a] != 5 || has[b] != 5 || last != 5 {
		t.Fatalf("%v, last %d", has, last)
	}
	check(f.Give(7, []task.Ref{c}))
	check(f.TakeBack(5, []task.Ref{b}))
	has, last, err = f.Ledger()
	check(err)
	if len(has) != 2 || has[a] != 5 || has[c] != 7 || last != 7 {
		t.Fatalf("%v, last %d", has, last)
	}
}

// TestCallsThroughFiles: each call is seen once, whole, and by a later owner not again.
func TestCallsThroughFiles(t *testing.T) {
	t.Parallel()
	f := folder(t)
	in := lease.Inbox{Ask: f.Ask(), Answer: f.Answer()}
	for id := uint64(1); id <= 3; id++ {
		if err := f.AskFor(lease.Call{ID: id, Method: "M", Body: []byte(strings.Repeat("x", int(id)*100))}); err != nil {
			t.Fatal(err)
		}
	}
	calls, err := in.Calls()
	if err != nil || len(calls) != 3 || calls[2].ID != 3 || calls[2].Method != "M" || len(calls[2].Body) != 300 {
		t.Fatalf("%v, %v", calls, err)
	}
	if err := f.Reply(lease.Reply{ID: 1, Failed: true, Body: []byte("no")}); err != nil {
		t.Fatal(err)
	}
	replies, next, err := f.Replies(0)
	if err != nil || len(replies) != 1 || !replies[0].Failed || string(replies[0].Body) != "no" {
		t.Fatalf("%v, %v", replies, err)
	}
	if again, _, err := f.Replies(next); err != nil || len(again) != 0 {
		t.Fatalf("%v, %v", again, err)
	}
	later := lease.Inbox{Ask: f.Ask(), Answer: f.Answer()}
	if calls, err := later.Calls(); err != nil || len(calls) != 0 {
		t.Fatalf("an owner that came later was asked %v, %v", calls, err)
	}
	if err := f.AskFor(lease.Call{ID: 4, Method: "M"}); err != nil {
		t.Fatal(err)
	}
	if calls, err := later.Calls(); err != nil || len(calls) != 1 || calls[0].ID != 4 {
		t.Fatalf("%v, %v", calls, err)
	}
}
