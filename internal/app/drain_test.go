package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// fillRest writes a file until there is no room for another byte.
func fillRest(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// TestDrainOnAFullDisk: a drain that has left something undone for lack of room says so,
// wherever it was that there was none.
func TestDrainOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	o := testOptions(t)
	o.Config.QueueDir = filepath.Join(disk, "queue")
	ballast := filepath.Join(disk, "ballast")
	w := openForCalls(t, o.Config, true)
	// The first fills the disk; of the others one after the other needs a little more.
	if _, err := w.SubmitTask(t.Context(), &pb.SubmitTaskRequest{Id: "fills", Spec: &pb.TaskSpec{Argv: []string{"dd", "if=/dev/zero", "of=" + ballast, "bs=4k"}}}); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if _, err := w.SubmitTask(t.Context(), &pb.SubmitTaskRequest{Spec: &pb.TaskSpec{Argv: []string{"true"}, After: []*pb.Dependency{{Id: "fills", When: "any"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	w.leave(t)
	r, err := Drain(t.Context(), DrainOptions{Config: o.Config, For: 5 * time.Second})
	if task.CodeOf(err) != task.CodeExhausted || r.Waiting+r.Running == 0 {
		t.Fatalf("a drain that ran out of room: %+v, %v", r, err)
	}
	if msg := err.Error(); !strings.Contains(msg, "free some space") || !strings.Contains(msg, o.Config.QueueDir) {
		t.Errorf("it says %q", msg)
	}
	fillRest(t, ballast)
	if _, err := Drain(t.Context(), DrainOptions{Config: o.Config, For: 5 * time.Second}); task.CodeOf(err) != task.CodeExhausted {
		t.Errorf("a drain that could do nothing: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r, err = Drain(t.Context(), DrainOptions{Config: o.Config, For: time.Minute})
	if err != nil || r.Reason != Finished || r.Waiting+r.Running > 0 {
		t.Errorf("a drain with room again: %+v, %v", r, err)
	}
}
