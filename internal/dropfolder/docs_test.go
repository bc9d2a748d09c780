package dropfolder

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

const docPath = "../../docs/drop-folder.md"

// blocks returns the blocks of a language in the document, as one program.
func blocks(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile(docPath)
	must(t, err)
	var program strings.Builder
	inside := false
	for line := range strings.Lines(string(text)) {
		switch {
		case !inside && strings.TrimSpace(line) == "```"+language:
			inside = true
		case inside && strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			program.WriteString(line)
		}
	}
	return program.String()
}

// TestDocs runs the programs of docs/drop-folder.md against a folder.
func TestDocs(t *testing.T) {
	for language, c := range map[string]struct {
		args []string
		want string
	}{
		"sh":     {[]string{"sh", "-euc"}, `"status":"completed"`},
		"python": {[]string{"python3", "-c"}, "completed\n"},
	} {
		t.Run(language, func(t *testing.T) {
			if testing.Short() && language == "python" {
				t.Skip("python3 is only needed by the whole test")
			}
			dir, l := t.TempDir(), newLedger()
			must(t, os.Chmod(dir, 0o700))
			must(t, os.Mkdir(dir+"/pending", 0o700))
			stop := runBusily(t, dir, l)
			defer stop()
			cmd := exec.CommandContext(t.Context(), c.args[0], append(c.args[1:], blocks(t, language))...)
			cmd.Env = append(os.Environ(), "ENV_QUEUE_DIR="+dir)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			must(t, err)
			if got := string(out); !strings.Contains(got, c.want) {
				t.Errorf("it prints %q, which lacks %q", got, c.want)
			}
			if len(l.all()) != 1 {
				t.Errorf("tasks %v", l.all())
			}
		})
	}
}

// runBusily runs a Folder whose tasks end as soon as they have come.
func runBusily(t *testing.T, dir string, l *ledger) (stop func()) {
	t.Helper()
	f, err := New(Options{Dir: dir, Tasks: l, Log: l, Origin: l, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- f.Run(ctx) }()
	go func() {
		for seen := uint64(0); l.WaitRecords(ctx, seen) == nil; {
			seen = l.LastIndex()
			l.endAll()
		}
		done <- nil
	}()
	return func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDocsNamesKeys: every key of an outcome is in the document.
func TestDocsNamesKeys(t *testing.T) {
	text, err := os.ReadFile(docPath)
	must(t, err)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	l, err := openLayout(dir)
	must(t, err)
	defer l.close()
	f := &Folder{layout: l}
	record, err := f.record(&entry{file: "none", id: "x"}, Outcome{State: task.Succeeded, SlurmJob: "7"})
	must(t, err)
	var keys map[string]any
	must(t, json.Unmarshal(record, &keys))
	if len(keys) < 7 {
		t.Fatalf("keys %v", keys)
	}
	for key := range keys {
		if !strings.Contains(string(text), "| `"+key+"` |") {
			t.Errorf("%s has no row for the key %s of an outcome", docPath, key)
		}
	}
}
