package dockertest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SetToolkit says whether the daemon that Up starts next finds NVIDIA's container toolkit.
func (e *Engine) SetToolkit(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cfg.NoToolkit = !on
}

// Given returns the UUIDs of the GPUs that each container was given, by its id.
func (e *Engine) Given(t testing.TB) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "gpus-given"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		id, uuids, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[id] = append(out[id], strings.Split(uuids, ",")...)
	}
	return out
}

// Lose makes the toolkit not find these GPUs any more.
func (e *Engine) Lose(t testing.TB, uuids ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, "gpus-gone"), []byte(strings.Join(uuids, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
