package dropfolder

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file server whose clock is behind ours makes no file older than it is: one that is
// being written has all of the patience.
func TestClockOfTheFileServer(t *testing.T) {
	m := newFuzzFolder(t) // its clock has nothing to do with that of the files
	m.opts.Network = true
	for _, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		m.now, m.scanAt = time.Now().Add(skew), time.Time{}
		m.step()
		half := filepath.Join(m.opts.Dir, "pending", "half.json")
		must(t, os.WriteFile(half, []byte("{"), 0o600))
		pass := func(d time.Duration) {
			for end := m.now.Add(d); m.now.Before(end); m.now = m.now.Add(settleNetwork) {
				m.round(t.Context())
			}
		}
		pass(DefaultPatience / 2)
		if _, err := os.Stat(half); err != nil {
			t.Errorf("with a clock that is off by %s: %v", skew, err)
		}
		pass(DefaultPatience)
		if _, err := os.Stat(half); err == nil {
			t.Errorf("with a clock that is off by %s it stays for ever", skew)
		}
		if left, err := os.ReadDir(filepath.Join(m.opts.Dir, "taken")); err != nil || len(left) != 0 {
			t.Errorf("in taken/ are %v (%v)", left, err)
		}
	}
}

// The age of a file is that by its own clock, where that is known.
func TestAgeOfAFile(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	changed := unix.NsecToTimespec(now.Add(-time.Hour).UnixNano())
	for c, want := range map[fileClock]time.Duration{
		{}:                                0,
		{known: true}:                     time.Hour,
		{known: true, ahead: -time.Hour}:  0,
		{known: true, ahead: time.Minute}: time.Hour + time.Minute,
	} {
		if got := c.age(changed, now); got != want {
			t.Errorf("%+v: %s, want %s", c, got, want)
		}
	}
}
