package main_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readmeDir is the root of the repository.
const readmeDir = "../.."

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(readmeDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tour returns the shell blocks of README's tour.
func tour(t *testing.T) []string {
	t.Helper()
	_, rest, ok := strings.Cut(readme(t), "<!-- tour")
	text, _, closed := strings.Cut(rest, "<!-- /tour -->")
	if !ok || !closed {
		t.Fatal("README.md has no tour between <!-- tour ... --> and <!-- /tour -->")
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) < 3 {
		t.Fatalf("the tour has %d blocks", len(blocks))
	}
	return blocks
}

// TestReadmeTour types the tour of README.md into a shell. Every command ends
// with 0, and when it is over nothing of it runs any more.
func TestReadmeTour(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("/tmp", "dspy-tour-*") // short, for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range mentioning(root) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // after a failure
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	runtime, work := filepath.Join(root, "run"), filepath.Join(root, "work")
	for _, d := range []string{runtime, work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	http := freeAddress(t) // other tests, or other people, may have the usual port
	for i, block := range tour(t) {
		block = strings.ReplaceAll(block, usualHTTP, http)
		cmd := exec.CommandContext(ctx, "bash", "-e", "-u", "-o", "pipefail", "-c", block)
		cmd.Dir = work
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + root, "XDG_RUNTIME_DIR=" + runtime, "LANG=C.UTF-8", "ORCHESTRATOR_HTTP_ADDR=" + http}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("block %d: %v\n%s\nprinted:\n%s", i+1, err, block, out.String())
		}
		t.Logf("$ %s%s", block, out.String())
	}
	left := mentioning(root)
	for deadline := time.Now().Add(20 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = mentioning(root) {
		<-time.After(20 * time.Millisecond) // polls: nobody tells when a process has gone
	}
	for _, pid := range left {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		t.Errorf("pid %d is left: %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte(" ")))
	}
}

// usualHTTP is where the tour calls the daemon over HTTP.
const usualHTTP = "127.0.0.1:9097"

// freeAddress returns one that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// mentioning lists the processes that have the path in their command line,
// environment or as their folder, this one excepted.
func mentioning(path string) []int {
	var out []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		if bytes.Contains(line, []byte(path)) || bytes.Contains(env, []byte(path)) || strings.HasPrefix(cwd, path) {
			out = append(out, pid)
		}
	}
	return out
}

// TestReadmeNamesWhatIsThere: every command, make target and file that README.md
// mentions exists.
func TestReadmeNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	text := readme(t)
	help, err := exec.CommandContext(t.Context(), filepath.Join(bin, "dspy-agent"), "help").CombinedOutput()
	if err != nil {
		t.Fatalf("help: %v\n%s", err, help)
	}
	for _, name := range mentioned(text, `dspy-agent ([a-z][a-z-]*)`) {
		if name != "supervise" && !regexp.MustCompile(`(?m)^\s+`+name+`\b`).Match(help) {
			t.Errorf("README.md mentions dspy-agent %s, which help does not list", name)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(readmeDir, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range mentioned(text, "(?m)(?:^|`)make ([a-z][a-z-]*)") {
		if !regexp.MustCompile(`(?m)^` + name + `:`).Match(makefile) {
			t.Errorf("README.md mentions make %s, which the Makefile does not have", name)
		}
	}
	files := append(mentioned(text, `\]\(([^)#:]+)(?:#[^)]*)?\)`), mentioned(text, "`((?:docs|scripts|internal|cmd|queue)/[A-Za-z0-9_./-]+)`")...)
	if len(files) < 3 {
		t.Errorf("only %d files are mentioned: is the pattern right?", len(files))
	}
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(readmeDir, name)); err != nil {
			t.Errorf("README.md refers to %s: %v", name, err)
		}
	}
}

// mentioned returns what the group of the pattern matches, each once.
func mentioned(text, pattern string) []string {
	seen := map[string]bool{}
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		if !seen[m[1]] {
			seen[m[1]] = true
			out = append(out, m[1])
		}
	}
	return out
}
