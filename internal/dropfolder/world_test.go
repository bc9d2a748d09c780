package dropfolder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is a drop folder, a queue, and the Folder between them. It runs in a
// synctest bubble: there is no inotify, and time passes when all wait.
type world struct {
	*testing.T
	dir    string
	ledger *ledger
	opts   Options
	log    *logBuffer
	stop   func()
	folder *Folder
}

// logBuffer is what was logged.
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

// inWorld runs a test in a bubble, with a Folder that runs.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	bubble(t, dir, test)
}

// inMemory returns a directory on a file system that costs no disk, if there is one:
// for tests that write thousands of files.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "dropfolder")
	if err != nil {
		dir = t.TempDir()
		must(t, os.Chmod(dir, 0o700))
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func bubble(t *testing.T, dir string, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.start()
		defer w.halt()
		w.pass(time.Second) // it has looked, and made its directories
		test(w)
	})
}

func newWorld(t *testing.T, dir string) *world {
	w := &world{T: t, dir: dir, ledger: newLedger(), log: &logBuffer{}}
	w.opts = Options{
		Dir: dir, Tasks: w.ledger, Log: w.ledger, Origin: w.ledger, Network: true,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return w
}

func (w *world) start() {
	w.Helper()
	f, err := New(w.opts)
	must(w, err)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	w.folder = f
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // in a synctest bubble
	synctest.Wait()
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// drop writes a file into pending/.
func (w *world) drop(name, content string) {
	w.Helper()
	must(w, os.WriteFile(w.path("pending", name), []byte(content), 0o600))
}

func (w *world) read(parts ...string) string {
	w.Helper()
	b, err := os.ReadFile(w.path(parts...))
	must(w, err)
	return string(b)
}

// names lists a directory.
func (w *world) names(dir string) []string {
	w.Helper()
	list, err := os.ReadDir(w.path(dir))
	must(w, err)
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func (w *world) empty(dirs ...string) {
	w.Helper()
	for _, dir := range dirs {
		if names := w.names(dir); len(names) > 0 {
			w.Errorf("%s has %q", dir, names)
		}
	}
}

func (w *world) has(parts ...string) bool {
	_, err := os.Lstat(w.path(parts...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.Fatal(err)
	}
	return err == nil
}

// done reads an outcome.
func (w *world) done(name string) map[string]any {
	w.Helper()
	var out map[string]any
	must(w, json.Unmarshal([]byte(w.read("done", name)), &out))
	return out
}

// only returns the one task of the queue.
func (w *world) only() (string, booked) {
	w.Helper()
	all := w.ledger.all()
	if len(all) != 1 {
		w.Fatalf("%d tasks: %v\n%s", len(all), all, w.log)
	}
	for id, t := range all {
		return id, t
	}
	return "", booked{}
}

// rejected checks that a file was rejected unchanged, and why.
func (w *world) rejected(name, content, reason string) {
	w.Helper()
	if got := w.read("rejected", name); got != content {
		w.Errorf("rejected/%s has %q", name, got)
	}
	if text := w.read("rejected", strings.TrimSuffix(name, ".json")+".error"); !strings.Contains(text, reason) {
		w.Errorf("%s was rejected with %q, which lacks %q", name, text, reason)
	}
}

func (w *world) logs(text string) {
	w.Helper()
	if !strings.Contains(w.log.String(), text) {
		w.Errorf("nothing was logged with %q:\n%s", text, w.log)
	}
}
