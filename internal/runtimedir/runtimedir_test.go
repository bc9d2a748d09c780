package runtimedir_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

func TestPath(t *testing.T) {
	for _, c := range []struct{ xdg, want string }{
		{"/run/user/7", "/tmp/dspy-agent-7"}, // uid 7 does not linger
		{"/dev", "/dev/dspy-agent"},
		{"/gone", "/tmp/dspy-agent-7"},
		{"", "/tmp/dspy-agent-7"},
		{"relative", "/tmp/dspy-agent-7"},
	} {
		if got := runtimedir.Path(c.xdg, 7); got != c.want {
			t.Errorf("Path(%q) = %q, want %q", c.xdg, got, c.want)
		}
	}
}

func TestDirMakesAndFindsAgain(t *testing.T) {
	xdg := t.TempDir()
	for range 2 {
		dir, err := runtimedir.Dir(xdg, os.Getuid())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%v, %v; want mode 0700", info.Mode(), err)
		}
	}
}

func TestUnsafe(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"symlink": func(t *testing.T, dir string) {
			check(t, os.Symlink(t.TempDir(), dir))
		},
		"file": func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir, nil, 0o600))
		},
		"open to others": func(t *testing.T, dir string) {
			check(t, os.Mkdir(dir, 0o700))
			check(t, os.Chmod(dir, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			xdg := t.TempDir()
			prepare(t, filepath.Join(xdg, "dspy-agent"))
			if dir, err := runtimedir.Dir(xdg, os.Getuid()); !errors.Is(err, runtimedir.ErrUnsafe) {
				t.Fatalf("Dir = %q, %v; want ErrUnsafe", dir, err)
			}
		})
	}
	t.Run("of somebody else", func(t *testing.T) {
		if _, err := runtimedir.Dir(t.TempDir(), os.Getuid()+1); !errors.Is(err, runtimedir.ErrUnsafe) {
			t.Fatalf("error %v, want ErrUnsafe", err)
		}
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
