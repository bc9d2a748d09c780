package lease_test

import (
	"os"
	"path/filepath"
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

// TestLedgerIsBegunAnew: what the worker has no more is left out, and the number of the last
// lease is not forgotten.
func TestLedgerIsBegunAnew(t *testing.T) {
	defer lease.SetAnewAt(100)()
	f := folder(t)
	a, b, c := task.Ref{Seq: 1, Attempt: 1}, task.Ref{Seq: 2, Attempt: 3}, task.Ref{Seq: 3, Attempt: 1}
	var refs []task.Ref
	for seq := range task.Seq(30) {
		refs = append(refs, task.Ref{Seq: 10 + seq, Attempt: 1})
	}
	must(t, f.Give(5, []task.Ref{a, b}))
	if f.LedgerIsLong() {
		t.Error("it is not long")
	}
	must(t, f.Give(6, refs))
	if !f.LedgerIsLong() {
		t.Error("it is long")
	}
	must(t, f.Rewrite(map[task.Ref]uint64{a: 5, refs[0]: 6}, 7))
	has, last, err := f.Ledger()
	must(t, err)
	if f.LedgerIsLong() || len(has) != 2 || has[a] != 5 || has[refs[0]] != 6 || last != 7 {
		t.Fatalf("%v, last %d", has, last)
	}
	must(t, f.TakeBack(5, []task.Ref{a}))
	must(t, f.Give(8, []task.Ref{c}))
	has, last, err = f.Ledger()
	must(t, err)
	if len(has) != 2 || has[c] != 8 || has[refs[0]] != 6 || last != 8 {
		t.Fatalf("%v, last %d", has, last)
	}
}

// TestVoidWithoutAFolder: somebody has removed it, or has begun to; nobody can claim
// anything, and what was not claimed can be given on.
func TestVoidWithoutAFolder(t *testing.T) {
	t.Parallel()
	ref := task.Ref{Seq: 1, Attempt: 1}
	for _, gone := range []string{"", "claims"} {
		f := folder(t)
		must(t, os.RemoveAll(filepath.Join(f.Dir, gone)))
		if ok, err := f.Void(ref, 7); !ok || err != nil {
			t.Errorf("without %q: %t, %v", gone, ok, err)
		}
		if ok, err := f.Claim(ref, 7); ok || err != nil {
			t.Errorf("without %q: claimed %t, %v", gone, ok, err)
		}
	}
}
