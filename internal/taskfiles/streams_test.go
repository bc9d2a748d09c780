package taskfiles_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// What is marked is read back, whoever wrote it and how often it was opened; marks ahead of
// output that never came are dropped.
func TestStreams(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "1-1.log")
	var want []taskfiles.Stream // by byte
	m, err := taskfiles.OpenMarks(path, 0)
	check(t, err)
	for range 500 {
		s := taskfiles.Stdout + taskfiles.Stream(rng.IntN(2))
		m.Set(int64(len(want)), s)
		for range 1 + rng.IntN(5) {
			want = append(want, s)
		}
		if rng.IntN(10) == 0 { // written ahead, and then killed
			check(t, m.Write())
			m.Set(int64(len(want)), taskfiles.Stdout)
			m.Set(int64(len(want))+1, taskfiles.Stderr)
			check(t, m.Write())
			check(t, m.Close())
			m, err = taskfiles.OpenMarks(path, int64(len(want)))
			check(t, err)
		}
	}
	check(t, m.Write())
	check(t, m.Close())
	check(t, os.WriteFile(path, make([]byte, len(want)), 0o600))
	log, err := taskfiles.OpenLog(path)
	check(t, err)
	defer log.Close() //nolint:errcheck // only read from
	for at := int64(0); at < int64(len(want)); {
		s, until, err := log.Stream(at)
		check(t, err)
		until = min(until, int64(len(want)))
		if until <= at {
			t.Fatalf("at %d it goes on until %d", at, until)
		}
		for ; at < until; at++ {
			if want[at] != s {
				t.Fatalf("byte %d is of %s, want %s", at, s, want[at])
			}
		}
	}
}

// A log without marks is of both.
func TestNoStreams(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "1-1.log")
	check(t, os.WriteFile(path, []byte("x"), 0o600))
	log, err := taskfiles.OpenLog(path)
	check(t, err)
	defer log.Close() //nolint:errcheck // only read from
	if s, until, err := log.Stream(0); err != nil || s != taskfiles.Both || until != math.MaxInt64 {
		t.Errorf("%s until %d, %v", s, until, err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
