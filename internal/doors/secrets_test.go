package doors

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// secured makes a certificate that holds from a time on, and a token, and returns
// where.
func secured(t *testing.T, from time.Time) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "access")
	uid := uint32(os.Geteuid())
	if err := access.MakeCertificate(dir, uid, []string{"localhost"}, from, false); err != nil {
		t.Fatal(err)
	}
	if err := access.MakeToken(dir, uid, false); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSecretsAreBothOrNone: with one of them alone nothing is secured, and what is
// missing is said; one that cannot be used is an error.
func TestSecretsAreBothOrNone(t *testing.T) {
	t.Parallel()
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change    func(t *testing.T, dir string)
		lacks     access.Lacks
		half, bad bool
	}{
		"both":             {change: remove()},
		"none":             {change: remove(access.CertFile, access.KeyFile, access.TokenFile), lacks: access.Lacks{Certificate: true, Token: true}},
		"a certificate":    {change: remove(access.TokenFile), lacks: access.Lacks{Token: true}, half: true},
		"a token":          {change: remove(access.CertFile, access.KeyFile), lacks: access.Lacks{Certificate: true}, half: true},
		"an open token":    {change: func(t *testing.T, dir string) { open(t, filepath.Join(dir, access.TokenFile)) }, bad: true},
		"an open key":      {change: func(t *testing.T, dir string) { open(t, filepath.Join(dir, access.KeyFile)) }, bad: true},
		"no folder (\"\")": {change: nil, lacks: access.Lacks{Certificate: true, Token: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := ""
			if c.change != nil {
				dir = secured(t, time.Now())
				c.change(t, dir)
			}
			got, err := readSecrets(dir, uint32(os.Geteuid()), time.Now())
			if (err != nil) != c.bad {
				t.Fatalf("got %v", err)
			}
			whole := !c.bad && c.lacks == access.Lacks{}
			if (got.cert != nil) != whole || got.lacks != c.lacks || (got.half != "") != c.half {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func open(t *testing.T, file string) {
	t.Helper()
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
}
