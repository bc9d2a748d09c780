package taskfiles

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a task puts in the place of the files beside its output, a FIFO or a link,
// blocks nobody who reads or writes there, and leads nobody elsewhere.
func TestStrangeFilesBesideTheOutput(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	must(t, os.WriteFile(elsewhere, []byte("mine"), 0o600))
	for what, put := range map[string]func(path string) error{
		"FIFO": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink(elsewhere, path) },
	} {
		path := filepath.Join(dir, what)
		must(t, put(path))
		if _, err := OpenLog(path); err == nil {
			t.Errorf("%s: read as an output", what)
		}
		must(t, put(path+cutsSuffix))
		if _, err := readCuts(path); err == nil {
			t.Errorf("%s: read as a note of cuts", what)
		}
		must(t, put(path+cutsSuffix+newSuffix))
		if err := writeCuts(path, nil, []cut{{From: 1, To: 2, Bytes: 1}}); err == nil {
			t.Errorf("%s: written to as a note of cuts", what)
		}
		must(t, put(path+".payload"+newSuffix))
		if err := WritePayload(path+".payload", []byte("{}")); err == nil {
			t.Errorf("%s: written to as a payload", what)
		}
	}
	if b, err := os.ReadFile(elsewhere); err != nil || string(b) != "mine" {
		t.Errorf("what a link names is now %q, %v", b, err)
	}
	if _, err := OpenLog(filepath.Join(dir, "FIFO")); !errors.Is(err, errStrangeFile) {
		t.Errorf("error %v", err)
	}
}
