package dropfolder

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/envelope"
)

// benchDir makes a folder with so many files that another program has written, and
// a queue.
func benchDir(b *testing.B, files int) (string, onQueue) {
	b.Helper()
	dir := b.TempDir()
	q, err := openQueue(dir)
	must(b, err)
	b.Cleanup(func() { must(b, q.Close()) })
	drop := filepath.Join(dir, "drop")
	must(b, os.MkdirAll(filepath.Join(drop, "pending"), 0o700))
	must(b, os.MkdirAll(filepath.Join(drop, "taken"), 0o700))
	for i := range files {
		must(b, os.WriteFile(filepath.Join(drop, "pending", name(i)+".json"), []byte(content(name(i))), 0o600))
	}
	d, err := openDir(nil, drop)
	must(b, err)
	defer d.f.Close()
	must(b, d.sync())
	return drop, q
}

func rate(b *testing.B, files int) {
	b.ReportMetric(float64(files)/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkTake takes files until all are tasks.
func BenchmarkTake(b *testing.B) {
	dir, q := benchDir(b, b.N)
	now := time.Now()
	f, err := New(Options{Dir: dir, Tasks: q, Log: q, Origin: q, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	must(b, err)
	defer f.close()
	b.ResetTimer()
	for len(f.taken.byID) < b.N {
		f.round(b.Context())
		now = now.Add(settleLocal)
	}
	rate(b, b.N)
}

// BenchmarkTakeFloor does what no program could leave out: rename, read, sync the
// names and the content once per batch, commit.
func BenchmarkTakeFloor(b *testing.B) {
	dir, q := benchDir(b, b.N)
	pending, err := openDir(nil, filepath.Join(dir, "pending"))
	must(b, err)
	defer pending.f.Close()
	taken, err := openDir(nil, filepath.Join(dir, "taken"))
	must(b, err)
	defer taken.f.Close()
	b.ResetTimer()
	for at := 0; at < b.N; at += maxBatch {
		var subs []Submission
		for i := at; i < min(at+maxBatch, b.N); i++ {
			must(b, pending.move(name(i)+".json", taken, name(i)+".json"))
			text, err := os.ReadFile(filepath.Join(dir, "taken", name(i)+".json"))
			must(b, err)
			sub, err := envelope.File.Read(text)
			must(b, err)
			subs = append(subs, Submission{Submission: sub, Ticket: fmt.Sprint(i)})
		}
		must(b, syncAll(taken, pending))
		_, err := q.Submit(b.Context(), subs)
		must(b, err)
	}
	rate(b, b.N)
}

// BenchmarkDeliver writes outcomes.
func BenchmarkDeliver(b *testing.B) {
	dir := b.TempDir()
	must(b, os.Chmod(dir, 0o700))
	must(b, os.MkdirAll(filepath.Join(dir, "pending"), 0o700))
	for i := range b.N {
		must(b, os.WriteFile(filepath.Join(dir, "pending", name(i)+".json"), []byte(content(name(i))), 0o600))
	}
	now, l := time.Now(), newLedger()
	f, err := New(Options{Dir: dir, Tasks: l, Log: l, Origin: l, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	must(b, err)
	defer f.close()
	for len(f.taken.byID) < b.N {
		f.round(b.Context())
		now = now.Add(settleLocal)
	}
	l.endAll()
	b.ResetTimer()
	for len(f.taken.all) > 0 {
		f.round(b.Context())
		now = now.Add(settleLocal)
	}
	rate(b, b.N)
}

// BenchmarkIdle looks at a folder with nothing in it.
func BenchmarkIdle(b *testing.B) {
	dir := b.TempDir()
	must(b, os.Chmod(dir, 0o700))
	now, l := time.Now(), newLedger()
	f, err := New(Options{Dir: dir, Tasks: l, Log: l, Origin: l, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	must(b, err)
	defer f.close()
	for b.Loop() {
		f.round(b.Context())
		now = now.Add(pollIdle)
	}
}
