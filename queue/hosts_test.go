package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func init() { roles["host"] = hostChild } //nolint:gochecknoinits // the table of roles is what it adds to

// hostSetup is what a process on another host is told.
type hostSetup struct {
	// Boot and Machine are its ids, and Name is its host name; "" = those of this host.
	Boot, Machine, Name string
	Kind                string // of the file system; "" = what it is
	Terms               queue.Terms
	TakeOver            bool
	Patience            time.Duration // for the lock
}

const hostSetupEnv = "DSPY_QUEUE_TEST_HOST"

// onHost is a process on a host that a test made up: with namespaces, and with files
// of its own where the ids of a machine and of a boot are.
type onHost struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *json.Encoder
	out *bufio.Reader
}

// startHost starts the process; it answers one line to each.
func startHost(t *testing.T, dir string, s hostSetup) *onHost {
	t.Helper()
	if s.Boot != "" && os.Getuid() != 0 {
		t.Skip("making up a host needs root")
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	h := &onHost{t: t, cmd: exec.Command(os.Args[0])}
	h.cmd.Env = append(os.Environ(), childEnv+"=host", childDirEnv+"="+dir, hostSetupEnv+"="+string(b))
	h.cmd.Stderr = os.Stderr
	if s.Boot != "" {
		h.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID}
	}
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = h.cmd.Start()
	if errors.Is(err, unix.EPERM) {
		t.Skip("this container may not make namespaces")
	}
	if err != nil {
		t.Fatal(err)
	}
	h.in, h.out = json.NewEncoder(in), bufio.NewReader(out)
	t.Cleanup(h.kill)
	return h
}

func (h *onHost) kill() {
	_ = h.cmd.Process.Kill() // it may have ended
	_ = h.cmd.Wait()
}

func (h *onHost) signal(sig syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

// freeze returns when every thread of the process stands still.
func (h *onHost) freeze() {
	h.t.Helper()
	h.signal(syscall.SIGSTOP)
	eventually(h.t, "the process stands still", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", h.cmd.Process.Pid))
		for _, path := range tasks {
			b, _ := os.ReadFile(path)
			if _, after, _ := strings.Cut(string(b), ") "); !strings.HasPrefix(after, "T") {
				return false
			}
		}
		return len(tasks) > 0
	})
}

func (h *onHost) send(words ...string) {
	h.t.Helper()
	if err := h.in.Encode(words); err != nil {
		h.t.Fatal(err)
	}
}

func (h *onHost) hear() string {
	h.t.Helper()
	line, err := h.out.ReadString('\n')
	if err != nil {
		h.t.Fatalf("the process on the other host says nothing more: %v", err)
	}
	return strings.TrimSpace(line)
}

func (h *onHost) ask(words ...string) string {
	h.t.Helper()
	h.send(words...)
	return h.hear()
}

func (h *onHost) mustSay(want string, words ...string) {
	h.t.Helper()
	if got := h.ask(words...); !strings.HasPrefix(got, want) {
		h.t.Fatalf("%v is answered by %q, want %s", words, got, want)
	}
}

// hostChild is the process.
func hostChild(dir string) error {
	var s hostSetup
	if err := json.Unmarshal([]byte(os.Getenv(hostSetupEnv)), &s); err != nil {
		return err
	}
	if s.Boot != "" {
		if err := pretend(s); err != nil {
			return err
		}
	}
	opts := queue.Options{Dir: dir, TakeOver: s.TakeOver, LockTimeout: s.Patience}.WithTerms(s.Terms)
	if s.Kind != "" {
		opts = opts.OnMount(s.Kind)
	}
	c := conversation{opts: opts}
	in := json.NewDecoder(os.Stdin)
	for {
		var words []string
		if in.Decode(&words) != nil {
			return nil
		}
		fmt.Println(strings.ReplaceAll(c.answer(words), "\n", " "))
	}
}

type conversation struct {
	opts queue.Options
	q    *queue.Queue
}

func (c *conversation) answer(words []string) string {
	var err error
	ctx := context.Background()
	switch words[0] {
	case "open":
		if c.q, err = queue.Open(ctx, c.opts); err == nil {
			return fmt.Sprint("ok ", c.q.Fence())
		}
	case "submit":
		_, err = c.q.Submit(ctx, []*task.Spec{spec(words[1])})
	case "churn": // without an end, and without waiting for questions
		err = c.churn(words[1])
	case "deposed":
		<-c.q.Deposed()
		err = c.q.Err()
	case "check":
		err = c.q.Check(ctx)
	case "close":
		err = c.q.Close()
	default:
		err = fmt.Errorf("what is %v?", words)
	}
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, queue.ErrLocked):
		return "locked: " + err.Error()
	case errors.Is(err, queue.ErrDeposed):
		return "deposed: " + err.Error()
	default:
		return "error: " + err.Error()
	}
}

// churn submits until that fails, and says aloud what was stored.
func (c *conversation) churn(prefix string) error {
	for i := 0; ; i++ {
		id := fmt.Sprint(prefix, i)
		if _, err := c.q.Submit(context.Background(), []*task.Spec{spec(id)}); err != nil {
			return err
		}
		fmt.Println("stored", id)
	}
}

// pretend makes the ids of this process those of another host.
func pretend(s hostSetup) error {
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for target, content := range map[string]string{"/proc/sys/kernel/random/boot_id": s.Boot, "/etc/machine-id": s.Machine} {
		if _, err := os.Stat(target); err != nil {
			continue // without a machine id the host name tells
		}
		path := filepath.Join(dir, filepath.Base(target))
		if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(path, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return unix.Sethostname([]byte(s.Name))
}

// Terms for processes: that of belief is far longer than a commit takes.
var forProcesses = queue.Terms{Beat: 20 * time.Millisecond, Confirm: 200 * time.Millisecond, Watch: 600 * time.Millisecond, Grace: 400 * time.Millisecond}

func firstHost() hostSetup {
	return hostSetup{
		Boot: "11111111-1111-4111-8111-111111111111", Machine: strings.Repeat("1", 32), Name: "login1",
		Kind: "nfs4", Terms: forProcesses, Patience: 50 * time.Millisecond,
	}
}

func secondHost() hostSetup {
	s := firstHost()
	s.Boot, s.Machine, s.Name = "22222222-2222-4222-8222-222222222222", strings.Repeat("2", 32), "login2"
	return s
}

// TestRestartedHost: an owner of before the last boot is dead, here and nowhere else.
func TestRestartedHost(t *testing.T) {
	t.Parallel()
	again := firstHost()
	again.Boot = "33333333-3333-4333-8333-333333333333"
	onDisk, elsewhere, ordered := again, secondHost(), secondHost()
	onDisk.Kind = "ext4"
	ordered.TakeOver = true
	for what, c := range map[string]struct {
		host hostSetup
		want string
	}{
		"a disk":                       {onDisk, "ok 2"},
		"a server":                     {again, "ok 2"},
		"another host":                 {elsewhere, "locked: queue directory"},
		"another host that is told to": {ordered, "ok 2"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := firstHost()
			first.Kind = c.host.Kind
			a := startHost(t, dir, first)
			a.mustSay("ok 1", "open")
			a.mustSay("ok", "submit", "a")
			a.kill()
			b := startHost(t, dir, c.host)
			b.mustSay(c.want, "open")
			if !strings.HasPrefix(c.want, "ok") {
				return
			}
			b.mustSay("ok", "submit", "b")
			b.mustSay("ok", "check")
			b.mustSay("ok", "close")
		})
	}
}

// TestFrozenOwner: an owner is frozen in the middle of its commits, taken over from
// another host, and thawed. What it has answered is there; what it answers from then
// on is that it was deposed; and its successor's queue is what it was.
func TestFrozenOwner(t *testing.T) {
	t.Parallel()
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			frozenOwner(t, 5+round*17)
		})
	}
}

func frozenOwner(t *testing.T, commits int) {
	dir := t.TempDir()
	a := startHost(t, dir, firstHost())
	a.mustSay("ok 1", "open")
	a.send("churn", "t")
	var stored []string
	for range commits {
		stored = append(stored, strings.TrimPrefix(a.hear(), "stored "))
	}
	careful, forced := secondHost(), secondHost()
	forced.TakeOver = true
	b := startHost(t, dir, careful)
	b.mustSay("locked: ", "open")
	b = startHost(t, dir, forced)
	b.send("open")
	for range 3 { // it lives, and says so between its commits
		stored = append(stored, strings.TrimPrefix(a.hear(), "stored "))
	}
	if said := b.hear(); !strings.HasPrefix(said, "locked: ") || !strings.Contains(said, "sign of life") {
		t.Fatalf("an owner that lives was taken over: %s", said)
	}
	a.freeze()
	b.mustSay("ok 2", "open")
	b.mustSay("ok", "submit", "new")
	a.signal(syscall.SIGCONT)
	for { // what it had said before it was frozen is still in the pipe
		said := a.hear()
		id, ok := strings.CutPrefix(said, "stored ")
		if !ok {
			if !strings.HasPrefix(said, "deposed: ") || !strings.Contains(said, "on host login2") {
				t.Errorf("the thawed owner does not say who took over: %s", said)
			}
			break
		}
		stored = append(stored, id)
	}
	a.mustSay("deposed: ", "deposed")
	a.mustSay("deposed: ", "submit", "late")
	a.mustSay("ok", "close")
	b.mustSay("ok", "submit", "newer")
	b.mustSay("ok", "check")
	b.mustSay("ok", "close")
	q := openQueue(t, queue.Options{Dir: dir})
	for _, id := range append(stored, "new", "newer") {
		if _, err := q.Lookup(id); err != nil {
			t.Errorf("%s was stored, and is gone: %v", id, err)
		}
	}
	if _, err := q.Lookup("late"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("what was submitted to the deposed one is there: %v", err)
	}
}
