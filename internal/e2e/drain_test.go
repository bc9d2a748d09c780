package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDrainTellsOfRejectedFiles: a file that cannot be a task is worth a mail from cron,
// also where nothing else was to be done.
func TestDrainTellsOfRejectedFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	pending := filepath.Join(w.queueDir, "pending")
	if err := os.MkdirAll(pending, 0o700); err != nil {
		t.Fatal(err)
	}
	put := func(name, body string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(pending, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a.json", `{"class": "cpu_shrt"}`)
	rejected := filepath.Join(w.queueDir, "rejected")
	if out, want := w.dspyOK("drain", "--quiet"), "1 file of the drop folder rejected ("+rejected+" says why)\n"; !strings.HasSuffix(out, want) {
		t.Errorf("said %q, want %q", out, want)
	}
	put("b.json", `{"class": "cpu_shrt"}`)
	put("c.json", `{"message": "hello"}`)
	if out, want := w.dspyOK("drain", "--json"), `"ended":{"succeeded":1},"running":0,"waiting":0,"rejected":1,`; !strings.Contains(out, want) {
		t.Errorf("said %s, want %s", out, want)
	}
	put("d.json", `{"message": "hello"}`)
	if out := w.dspyOK("drain", "--quiet"); out != "" {
		t.Errorf("said %q of what went well", out)
	}
}
