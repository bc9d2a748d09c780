package dropfolder

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// brief is a Folder for as long as it is busy, as in a drain that has nothing else to do.
func brief(t *testing.T, m *fuzzFolder, at time.Time, network bool) {
	t.Helper()
	opts := m.opts
	opts.Network, opts.clock = network, fileClock{}
	f, err := New(opts)
	must(t, err)
	m.close()
	m.Folder, m.now = f, at
	for f.Busy() {
		if m.now = m.now.Add(f.round(t.Context())); m.now.Sub(at) > 10*time.Second {
			t.Fatal("it is busy for ever")
		}
	}
}

func (m *fuzzFolder) has(dir string, names ...string) {
	m.t.Helper()
	list, err := os.ReadDir(filepath.Join(m.opts.Dir, dir))
	must(m.t, err)
	got := map[string]bool{}
	for _, e := range list {
		got[e.Name()] = true
	}
	for _, n := range names {
		if !got[n] {
			m.t.Errorf("%s lacks %s: %v", dir, n, got)
		}
	}
	if len(got) != len(names) {
		m.t.Errorf("%s has %v, want %q", dir, got, names)
	}
}

// TestShortRuns: what is not whole is rejected once it is old enough, also by runs that are
// over long before that; and not before.
func TestShortRuns(t *testing.T) {
	t.Parallel()
	const ticket = "01J0000000000000000000000A"
	for name, put := range map[string]func(dir string) error{
		"half-written":       func(dir string) error { return os.WriteFile(dir+"/pending/x.json", []byte(`{"id":`), 0o600) },
		"half, taken before": func(dir string) error { return os.WriteFile(dir+"/taken/"+ticket+"~x.json", []byte(`{`), 0o600) },
		"a symbolic link":    func(dir string) error { return os.Symlink("/etc/hostname", dir+"/pending/x.json") },
		"a request": func(dir string) error {
			return os.WriteFile(dir+"/requests/x.json", []byte(`{"cancel":`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newFuzzFolder(t)
			must(t, put(m.opts.Dir))
			now := time.Now()
			for _, age := range []time.Duration{time.Second, DefaultPatience / 2} {
				brief(t, m, now.Add(age), false)
				m.has("rejected")
			}
			brief(t, m, now.Add(DefaultPatience+time.Second), false)
			m.has("rejected", "x.json", "x.error")
			for _, dir := range []string{"pending", "taken", "requests"} {
				m.has(dir)
			}
		})
	}
}

// TestShortRunsAndHardLinks: the two names of one file are both rejected. To move the one
// changes the age of the other.
func TestShortRunsAndHardLinks(t *testing.T) {
	t.Parallel()
	for name, network := range map[string]bool{"local": false, "on a file server": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newFuzzFolder(t)
			pending := filepath.Join(m.opts.Dir, "pending")
			must(t, os.WriteFile(pending+"/a.json", []byte(`{"payload":{}}`), 0o600))
			must(t, os.Link(pending+"/a.json", pending+"/b.json"))
			now := time.Now()
			brief(t, m, now.Add(time.Second), network)
			m.has("pending", "a.json", "b.json")
			if network { // its clock is the one that counts
				m.opts.stat = func(d *dir, name string) (unix.Stat_t, error) {
					st, err := d.stat(name)
					st.Ctim.Sec -= int64(10 * time.Minute / time.Second)
					return st, err
				}
			}
			brief(t, m, now.Add(DefaultPatience+time.Second), network)
			m.has("pending")
			m.has("taken")
			m.has("rejected", "a.json", "a.error", "b.json", "b.error")
			if n := len(m.ledger.all()); n != 0 {
				t.Errorf("%d tasks were submitted", n)
			}
		})
	}
}

// TestEmptyID: an id that somebody forgot to fill in is no id that we may choose.
func TestEmptyID(t *testing.T) {
	inWorld(t, func(w *world) {
		const content = `{"id":"","payload":{"a":1}}`
		w.drop("x.json", content)
		w.pass(time.Minute)
		w.rejected("x.json", content, `the "id" is empty`)
		w.empty("taken", "pending")
	})
}
