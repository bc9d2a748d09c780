package e2e

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// Another program fills the drop folder with all that may lie there, while drains and
// daemons take turns and are killed. Each valid file becomes a task once and has its
// outcome; the others are set aside with the reason; nothing is gone.
func TestDropFilesOfAnotherProgram(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "json")
	w := newWorld(t, binaries.plain)
	for _, dir := range []string{"", "pending"} {
		if err := os.MkdirAll(filepath.Join(w.queueDir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	writer := exec.Command(interpreter, filepath.Join("testdata", "dropfiles.py"), w.queueDir, fmt.Sprint(rounds(400, 10_000)), fmt.Sprint(seed), "12345")
	writer.Stderr = os.Stderr
	said, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	type file = struct{ name, fate, kind string }
	files := make(chan []file, 1)
	go func() {
		var all []file
		for lines := bufio.NewScanner(said); lines.Scan(); {
			f := strings.Fields(lines.Text())
			all = append(all, file{f[0], f[1], f[2]})
		}
		files <- all
	}()
	made := w.takeTurnsUntil(rand.New(rand.NewPCG(uint64(seed), 9)), files)
	if err := writer.Wait(); err != nil {
		t.Fatal(err)
	}

	// What is to be rejected is so after its patience of a minute.
	w.mustStart()
	pending := func() []string {
		names, err := filepath.Glob(filepath.Join(w.queueDir, "pending", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	taken := func() []string {
		names, err := filepath.Glob(filepath.Join(w.queueDir, "taken", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	w.eventually(4*time.Minute, "all files have their fate", func() bool { return len(pending()) == 0 && len(taken()) == 0 })
	w.endDaemon()

	submitted, outcomes := w.submittedOnce(), w.outcomes()
	for _, f := range made {
		isTask := f.fate == "task"
		done, rejected := exists(filepath.Join(w.queueDir, "done", f.name+".json")), lexists(filepath.Join(w.queueDir, "rejected", f.name+".json"))
		explained := exists(filepath.Join(w.queueDir, "rejected", f.name+".error"))
		if done != isTask || rejected == isTask || explained != rejected || submitted[f.name] != isTask {
			t.Errorf("%s (%s): done %v, rejected %v, explained %v, a task %v", f.name, f.kind, done, rejected, explained, submitted[f.name])
		}
		if isTask {
			w.wentWell(outcomes, f.name)
		}
		delete(submitted, f.name)
	}
	if len(submitted) > 0 {
		t.Errorf("tasks that no file asked for: %v", submitted)
	}
	w.checkOwners()
}

// takeTurnsUntil has drains and daemons begin and be killed until something arrives.
func (w *world) takeTurnsUntil(rnd *rand.Rand, done <-chan []struct{ name, fate, kind string }) []struct{ name, fate, kind string } {
	w.Helper()
	programs := [][]string{{"dspy-agent", "drain"}, {"dspy-agent", "drain", "--for", "1s"}, {"orchestrator"}}
	for {
		p := programs[rnd.IntN(len(programs))]
		r := w.rival(p[0], p[1:]...)
		select {
		case all := <-done:
			r.end(syscall.SIGKILL)
			return all
		case <-r.dead:
		case <-time.After(time.Duration(rnd.IntN(1500)) * time.Millisecond):
			r.end(syscall.SIGKILL)
		}
	}
}

// submittedOnce returns the ids of all tasks, and fails the test for one that was
// submitted twice.
func (w *world) submittedOnce() map[string]bool {
	w.Helper()
	q, err := queue.Open(context.Background(), queue.Options{Dir: w.queueDir, ReadOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	defer q.Close()
	records, err := q.Records(1, 1_000_000)
	if err != nil {
		w.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, r := range records {
		if r.Kind != task.EventSubmitted {
			continue
		}
		if ids[r.ID] {
			w.Errorf("%s was submitted twice", r.ID)
		}
		ids[r.ID] = true
	}
	return ids
}

// lexists says whether something has that name, be it a link to nothing.
func lexists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Files that name the same id in one look: the first is the task, and one that asks for
// something else is refused by name, as if it had come later.
func TestDropFilesOfOneID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	for _, dir := range []string{"", "pending"} {
		if err := os.MkdirAll(filepath.Join(w.queueDir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const files = 9
	for i := range files {
		path := filepath.Join(w.queueDir, "pending", fmt.Sprintf("f%d.json", i))
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"id": "same", "payload": {"n": %d}}`, i), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+int64(i), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	w.dspyOK("drain", "--for", "1m")
	for i := range files {
		done, rejected := exists(filepath.Join(w.queueDir, "done", fmt.Sprintf("f%d.json", i))), exists(filepath.Join(w.queueDir, "rejected", fmt.Sprintf("f%d.json", i)))
		if done != (i == 0) || rejected != (i != 0) {
			t.Errorf("file %d: done %v, rejected %v", i, done, rejected)
		}
	}
	if got := w.dspyOK("result", "same"); !strings.Contains(got, `"n":0`) && !strings.Contains(got, `"n": 0`) {
		t.Errorf("the task is %s", got)
	}
}
