package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// roleVar makes this program another process, under another uid.
const roleVar = "E2E_ROLE"

// roles are what it can play then. Each reads JSON and returns what is to be
// printed as JSON.
var roles = map[string]func(input []byte) (any, error){
	"call":  callAll,
	"knock": knockAll,
	"echo":  playEcho,
	"grab":  playGrab,
}

// play plays a role to its end, and returns the exit code.
func play(role string) int {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	begin, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown role %q\n", role)
		return 2
	}
	out, err := begin(input)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ownCopy is this program where another user can run it: not where go test put it.
var ownCopy = sync.OnceValues(func() (string, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(binaries.plain), "another")
	return path, os.WriteFile(path, self, 0o755)
})

// needsRoot skips a test about other users where there can be none.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("acting as another user needs root: run this test as root")
	}
}

// playAs has a child with another uid play a role, and decodes what it prints.
func playAs[Out any](t *testing.T, uid int, role string, input any) (out Out) {
	t.Helper()
	exe, err := ownCopy()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	// The race detector would have each child wait a second before it ends.
	cmd.Env = []string{roleVar + "=" + role, "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("uid %d cannot play %q: %v", uid, role, err)
	}
	if err := json.Unmarshal(printed, &out); err != nil {
		t.Fatalf("uid %d printed %q: %v", uid, printed, err)
	}
	return out
}
