package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type finding struct{ Name, Status, Text, Mend string }

// doctor runs it to its end, which has to come soon whatever hangs, and returns what
// it found.
func doctor(t *testing.T, argv ...string) map[string]finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], "--json")...)
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "XDG_RUNTIME_DIR=" + run}
	cmd.WaitDelay = time.Second // for what it left behind, which must not hold our pipe
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 1 { // 1: it found a problem
		t.Fatalf("%v, want exit code 0 or 1\n%s", err, out)
	}
	var all []finding
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[string]finding{}
	for _, f := range all {
		found[f.Name] = f
	}
	return found
}

// TestDoctorOnAFIFO: owner.json is a FIFO, which would hang for whoever reads it as a file.
func TestDoctorOnAFIFO(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := filepath.Join(work, "logs", "env_queue")
	if err := errors.Join(os.MkdirAll(dir, 0o700), syscall.Mkfifo(filepath.Join(dir, "owner.json"), 0o600)); err != nil {
		t.Fatal(err)
	}
	found := doctor(t, filepath.Join(bin, "dspy-agent"), "--workspace", work, "doctor")
	if f := found["owner"]; f.Status != "warning" || !strings.Contains(f.Text, "is not a file") {
		t.Errorf("%+v", f)
	}
	if left := mentioning(work); len(left) > 0 {
		t.Errorf("pids %v are left", left)
	}
}

// TestDoctorOnAHangingFileServer has the workspace on a file system that never answers.
func TestDoctorOnAHangingFileServer(t *testing.T) {
	t.Parallel()
	if !mayMount(t) {
		t.Skip("a file system that hangs takes namespaces, and those root: run the tests as root")
	}
	dir := t.TempDir()
	found := doctor(t, "unshare", "-m", "--propagation", "private", "bash", "-e", "-c", hangingFolder, "bash", dir,
		filepath.Join(bin, "dspy-agent"), "--workspace", filepath.Join(dir, "work"), "doctor")
	if f := found["configuration"]; f.Status != "problem" || !strings.Contains(f.Text, "no answer within 5s from the file system of the workspace") {
		t.Errorf("%+v", f)
	}
	if f, ok := found["workspace"]; ok {
		t.Errorf("what waits for another check is not to blame: %+v", f)
	}
	if f := found["login"]; f.Text == "" {
		t.Error("what does not hang is not told")
	}
}
