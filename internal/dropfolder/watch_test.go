package dropfolder

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is written, moved or linked into the folder is noticed at once.
func TestWatchNoticesEveryWayIn(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	l, err := openLayout(dir)
	must(t, err)
	defer l.close()
	f := &Folder{opts: Options{Logger: slog.New(slog.DiscardHandler)}, layout: l}
	w := f.watch()
	defer w.close()
	if w.f == nil {
		t.Fatal("it does not watch")
	}
	outside := filepath.Join(dir, "outside")
	for name, way := range map[string]func(to string) error{
		"write": func(to string) error { return os.WriteFile(to, []byte("{}"), 0o600) },
		"move": func(to string) error {
			must(t, os.WriteFile(outside, nil, 0o600))
			return os.Rename(outside, to)
		},
		"link": func(to string) error {
			must(t, os.WriteFile(outside, nil, 0o600))
			return os.Link(outside, to)
		},
	} {
		for _, in := range []string{"pending", "requests"} {
			for len(w.changed) > 0 {
				<-w.changed
			}
			must(t, way(filepath.Join(dir, in, name+".json")))
			select {
			case <-w.changed:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s in %s was not noticed", name, in)
			}
		}
	}
}

// On real time, with inotify: a file becomes a task, and its outcome is there as
// soon as it has ended.
func TestRunOnRealTime(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	l := newLedger()
	f, err := New(Options{Dir: dir, Tasks: l, Log: l, Origin: l, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	for i := range 3 {
		id, err := Put(dir, File{})
		must(t, err)
		must(t, l.WaitRecords(t.Context(), uint64(2*i)))
		l.end(id, Outcome{State: 96})
	}
	cancel()
	must(t, <-done)
	if len(l.all()) != 3 {
		t.Errorf("tasks %v", l.all())
	}
}

// brokenLog ends.
type brokenLog struct{ *ledger }

var errBroken = errors.New("the queue is closed")

func (brokenLog) WaitRecords(context.Context, uint64) error { return errBroken }

func TestRunEndsWithItsEventLog(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	l := newLedger()
	f, err := New(Options{Dir: dir, Tasks: l, Log: brokenLog{l}, Origin: l, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	if err := f.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("it ended with %v", err)
	}
}

// A writer that replaces its file again and again, while it is looked at and taken:
// what becomes a task is whole, no version becomes two, and the last becomes one.
func TestWriterThatReplacesItsFile(t *testing.T) {
	dir, l := inMemory(t), newLedger()
	f, err := New(Options{Dir: dir, Tasks: l, Log: l, Origin: l, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "pending"), 0o700))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	const versions = 3000
	temp, target := filepath.Join(dir, "pending", ".tmp"), filepath.Join(dir, "pending", "x.json")
	long := strings.Repeat("x", 100_000)
	for i := range versions {
		text := `{"payload":{"n":"` + name(i) + `","long":"` + long + `"}}`
		must(t, os.WriteFile(temp, []byte(text), 0o600))
		must(t, os.Rename(temp, target))
	}
	seen := map[string]int{}
	for after := uint64(0); seen[name(versions-1)] == 0; after++ {
		must(t, l.WaitRecords(t.Context(), after))
		clear(seen)
		for _, b := range l.all() {
			var n string
			must(t, json.Unmarshal(b.sub.Payload["n"], &n))
			seen[n]++
			if len(b.sub.Payload["long"]) != len(long)+2 {
				t.Errorf("version %s is cut", n)
			}
		}
	}
	cancel()
	must(t, <-done)
	for n, times := range seen {
		if times != 1 {
			t.Errorf("version %s is %d tasks", n, times)
		}
	}
}
