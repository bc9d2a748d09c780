package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDrainLeavesAloneWhatWaits: a taken file whose task is paused is nothing that a
// drain could do anything about, and it writes nothing, however often cron starts it.
func TestDrainLeavesAloneWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	pending := filepath.Join(w.queueDir, "pending")
	if err := os.MkdirAll(pending, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"a.json": `{"class": "cpu_long", "payload": {"command": ["true"]}}`, "b.json": `{"id": "mine", "class": "cpu_long", "payload": {"command": ["true"]}}`} {
		if err := os.WriteFile(filepath.Join(pending, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.dspyOK("submit", "--workspace", w.workspace, "--", "true") // makes the queue
	w.dspyOK("pause", "cpu_long")
	w.dspyOK("drain")
	if n := len(filesIn(t, filepath.Join(w.queueDir, "taken"))); n != 2 {
		t.Fatalf("%d files were taken, want 2", n)
	}
	w.eventually(time.Minute, "the supervisor has left, which writes", func() bool { return len(w.supervisor()) == 0 })
	before := filesIn(t, w.workspace)
	w.dspyOK("drain")
	if after := filesIn(t, w.workspace); !maps.Equal(before, after) {
		t.Errorf("it wrote: there were %v, and there are %v", before, after)
	}
	w.dspyOK("resume", "cpu_long")
	w.dspyOK("drain")
	if done := filesIn(t, filepath.Join(w.queueDir, "done")); len(done) != 2 {
		t.Errorf("the outcomes are %v", done)
	}
}

// filesIn returns the files below a folder, and when and to what size they were written.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			out[path] = fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

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
