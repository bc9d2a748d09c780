package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Where the test's own program is to show a folder as a file server does, and which.
const (
	serveAtEnv = "DSPY_AGENT_TEST_SERVE_AT"
	serveEnv   = "DSPY_AGENT_TEST_SERVE"
)

// serveFolder is the process that serves it, until it is killed. It is one of its own: a
// process that both serves a file system and uses it can block itself.
func serveFolder(dir, at string) error {
	root, err := fusefs.NewLoopbackRoot(dir)
	if err != nil {
		return err
	}
	var none time.Duration // what others change is seen by the next to open it
	server, err := fusefs.Mount(at, root, &fusefs.Options{
		AttrTimeout: &none, EntryTimeout: &none, NegativeTimeout: &none,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "files:/export", Name: "share"},
	})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	server.Wait()
	return nil
}

// onFileServer returns a folder on a file system that is not local.
func onFileServer(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+t.TempDir(), serveAtEnv+"="+at)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // without its server nothing hangs in it any more
		_ = cmd.Wait()
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the file system is not mounted: %q %v", line, err)
	}
	return at
}

// share is a workspace on a file server.
type share struct {
	t         *testing.T
	dir       string
	elsewhere map[string]any // what the owner on another host says of itself
}

func newShare(t *testing.T) *share {
	t.Helper()
	return &share{t: t, dir: onFileServer(t), elsewhere: map[string]any{
		"role": "daemon", "host": "login2", "machine": "other", "boot_id": "another", "pid": 77, "start_ticks": 5, "fence": 9,
		"started_at": "2026-03-04T05:06:07Z",
	}}
}

func (s *share) queue(elements ...string) string {
	return filepath.Join(append([]string{s.dir, "logs", "env_queue"}, elements...)...)
}

// ownedElsewhere gives the queue an owner on another host.
func (s *share) ownedElsewhere() {
	s.t.Helper()
	b, err := json.Marshal(s.elsewhere)
	if err == nil {
		err = os.WriteFile(s.queue("owner.json"), b, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// call runs a command, which has to end by itself, and returns what it said.
func (s *share) call(code int, args string) (stdout, stderr string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "dspy-agent"), append([]string{"--workspace", s.dir}, strings.Fields(args)...)...)
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + s.t.TempDir(), "XDG_RUNTIME_DIR=" + run}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != code {
		s.t.Fatalf("%s: %v, want exit code %d\n%s%s", args, err, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// TestSubmitToOwnerOnAnotherHost: where the queue is on a file server and belongs to
// another host, what is asked for is left on disk within seconds, however much each try
// to open the queue changes its folder.
func TestSubmitToOwnerOnAnotherHost(t *testing.T) {
	t.Parallel()
	if !mayMount(t) {
		return // TestSameHolderForAllTries of internal/app stands for it
	}
	s := newShare(t)
	s.call(0, "submit --id a -- true")
	s.ownedElsewhere()
	began := time.Now()
	if out, errs := s.call(0, "submit --id b -- true"); out != "b\n" || !strings.Contains(errs, "pid 77 on host login2") {
		t.Errorf("%q, %q", out, errs)
	}
	if out, _ := s.call(0, "cancel a"); !strings.Contains(out, "a is to be cancelled by pid 77") {
		t.Errorf("%q", out)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if left, err := filepath.Glob(s.queue("requests", "*.json")); err != nil || len(left) != 2 {
		t.Errorf("in requests/ are %q, %v", left, err)
	}
}
