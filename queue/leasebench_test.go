package queue

import (
	"context"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// BenchmarkConfirm is what a commit pays twice for knowing that the queue is ours.
func BenchmarkConfirm(b *testing.B) {
	q, err := Open(context.Background(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			b.Error(err)
		}
	}()
	for b.Loop() {
		if err := q.ConfirmLease(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit is one call that stores one task, alone.
func BenchmarkCommit(b *testing.B) {
	q, err := Open(context.Background(), Options{Dir: b.TempDir(), MaxWaiting: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			b.Error(err)
		}
	}()
	for b.Loop() {
		if _, err := q.Submit(context.Background(), []*task.Spec{{Class: "cpu", Argv: []string{"true"}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a queue for writing and closes it.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		q, err := Open(context.Background(), Options{Dir: dir})
		if err == nil {
			err = q.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
