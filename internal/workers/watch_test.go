package workers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// TestUnmadeFolder: what a worker has left that ended while it made its folder is removed,
// once it is old; what is no worker's is not touched.
func TestUnmadeFolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		there := func(path string) bool {
			_, err := os.Stat(path)
			return !errors.Is(err, fs.ErrNotExist)
		}
		mk := func(name string, age time.Duration) string {
			path := filepath.Join(f.opts.Dir, name)
			at := time.Now().Add(-age)
			if err := errors.Join(os.MkdirAll(filepath.Join(path, "claims"), 0o700), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
			return path
		}
		fresh, old, other := mk("freshaaaaaaaa", time.Minute), mk("oldaaaaaaaaaa", 2*time.Hour), mk("some-thing", 2*time.Hour)
		w := f.worker("made", lease.Card{})
		if err := os.Chtimes(w.Dir, time.Now().Add(-2*time.Hour), time.Now().Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		end := f.watch()
		time.Sleep(5 * time.Second)
		end()
		if !there(fresh) || there(old) || !there(other) || !there(w.Dir) {
			t.Errorf("that is being made: %t, that never was: %t, another's: %t, a worker's: %t", there(fresh), there(old), there(other), there(w.Dir))
		}
	})
}
