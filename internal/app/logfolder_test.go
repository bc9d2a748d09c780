package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// TestLogFolderIsIgnored: one that we make stays out of a repository, and one that was there
// is its owner's.
func TestLogFolderIsIgnored(t *testing.T) {
	t.Parallel()
	for made, want := range map[bool]bool{false: true, true: false} {
		c := config.Default(t.TempDir())
		if made {
			if err := os.Mkdir(c.LogDir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := app.MakeLogFolder(c); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(filepath.Join(c.LogDir, ".gitignore"))
		if got := err == nil && string(text) == "*\n"; got != want {
			t.Errorf("made before: %t: %q, %v", made, text, err)
		}
	}
}

// TestCommandMakesTheSameFolder: a command that makes the queue keeps it out of a repository, as
// a daemon does.
func TestCommandMakesTheSameFolder(t *testing.T) {
	t.Parallel()
	c := config.Default(t.TempDir())
	u, err := app.OpenUnattended(t.Context(), app.UnattendedOptions{Config: c, Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(c.LogDir, ".gitignore")); err != nil || string(text) != "*\n" {
		t.Errorf("%q, %v", text, err)
	}
}
