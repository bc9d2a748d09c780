package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/hosttest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func init() { roles["host"] = hostChild } //nolint:gochecknoinits // the table of roles is what it adds to

// hostSetup is what a process on another host is told.
type hostSetup struct {
	hosttest.Identity        // without a Boot it is on this host
	Kind              string // of the file system; "" = what it is
	Terms             queue.Terms
	TakeOver          bool
	Patience          time.Duration // for the lock
}

const hostSetupEnv = "DSPY_QUEUE_TEST_HOST"

// onHost is a process on a host that a test made up: with namespaces, and with files
// of its own where the ids of a machine and of a boot are.
type onHost struct {
	*hosttest.Process
	t *testing.T
}

// startHost starts the process; it answers one line to each.
func startHost(t *testing.T, dir string, s hostSetup) *onHost {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return &onHost{hosttest.Start(t, s.Boot != "", childEnv+"=host", childDirEnv+"="+dir, hostSetupEnv+"="+string(b)), t}
}

// freeze returns when every thread of the process stands still.
func (h *onHost) freeze() {
	h.t.Helper()
	h.Signal(syscall.SIGSTOP)
	eventually(h.t, "the process stands still", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", h.Cmd.Process.Pid))
		for _, path := range tasks {
			b, _ := os.ReadFile(path)
			if _, after, _ := strings.Cut(string(b), ") "); !strings.HasPrefix(after, "T") {
				return false
			}
		}
		return len(tasks) > 0
	})
}

func (h *onHost) mustSay(want string, words ...string) {
	h.t.Helper()
	if got := h.Ask(words...); !strings.HasPrefix(got, want) {
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
		if err := s.Assume(); err != nil {
			return err
		}
	}
	opts := queue.Options{Dir: dir, TakeOver: s.TakeOver, LockTimeout: s.Patience}.WithTerms(s.Terms)
	if s.Kind != "" {
		opts = opts.OnMount(s.Kind)
	}
	c := conversation{opts: opts}
	return hosttest.Words(func(words []string) error {
		fmt.Println(strings.ReplaceAll(c.answer(words), "\n", " "))
		return nil
	})
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

// Terms for processes: that of belief is far longer than a commit takes.
var forProcesses = queue.Terms{Beat: 20 * time.Millisecond, Confirm: 200 * time.Millisecond, Watch: 600 * time.Millisecond, Grace: 400 * time.Millisecond}

func firstHost() hostSetup {
	return hostSetup{
		Identity: hosttest.Identity{Boot: "11111111-1111-4111-8111-111111111111", Machine: strings.Repeat("1", 32), Name: "login1"},
		Kind:     "nfs4", Terms: forProcesses, Patience: 50 * time.Millisecond,
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
			a.Kill()
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
	a.Send("churn", "t")
	var stored []string
	for range commits {
		stored = append(stored, strings.TrimPrefix(a.Hear(), "stored "))
	}
	careful, forced := secondHost(), secondHost()
	forced.TakeOver = true
	b := startHost(t, dir, careful)
	b.mustSay("locked: ", "open")
	b = startHost(t, dir, forced)
	b.Send("open")
	for range 3 { // it lives, and says so between its commits
		stored = append(stored, strings.TrimPrefix(a.Hear(), "stored "))
	}
	if said := b.Hear(); !strings.HasPrefix(said, "locked: ") || !strings.Contains(said, "sign of life") {
		t.Fatalf("an owner that lives was taken over: %s", said)
	}
	a.freeze()
	b.mustSay("ok 2", "open")
	b.mustSay("ok", "submit", "new")
	a.Signal(syscall.SIGCONT)
	for { // what it had said before it was frozen is still in the pipe
		said := a.Hear()
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
