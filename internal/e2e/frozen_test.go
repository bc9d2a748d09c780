package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A daemon stands still (SIGSTOP, a host that swaps) with work of its own running. From
// another host the queue is taken over on request: the work is followed through the
// folder that both see, and not repeated. When the daemon goes on, it finds that the
// queue is another's, changes nothing, and leaves.
func TestFrozenOwnerIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	far := w.otherHost("far")
	w.mustStart()
	here, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const work = `echo begun; until [ -e %[1]s/go-%[2]s ]; do sleep 0.05; done; echo "$DSPY_TASK_ID" >> %[1]s/ran; hostname; exit %[3]d`
	for id, code := range map[string]int{"good": 0, "bad": 7} {
		w.dspyOK("submit", "--id", id, "--", "sh", "-c", fmt.Sprintf(work, w.workspace, id, code))
	}
	w.eventually(30*time.Second, "both run", func() bool {
		return w.dspyOK("logs", "good") == "begun\n" && w.dspyOK("logs", "bad") == "begun\n"
	})
	w.dspyOK("submit", "--id", "after", "--after", "good", "--", "hostname")

	owner := w.daemon()
	if err := owner.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.poll("it is stopped", func() bool { return stopped(owner.cmd.Process.Pid) })
	ended := make(chan answered, 1)
	go func() { ended <- far.dspy("drain", "--take-over", "--for", "3m") }()
	// While the other host has the queue, the work of the first one ends.
	w.eventually(3*time.Minute, "the other host has the queue", func() bool {
		text, err := os.ReadFile(filepath.Join(w.queueDir, "owner.json"))
		return err == nil && strings.Contains(string(text), `"`+far.name+`"`)
	})
	for _, id := range []string{"good", "bad"} {
		if err := os.WriteFile(filepath.Join(w.workspace, "go-"+id), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drained := <-ended
	w.wants(drained, exitDone)
	t.Logf("the drain: %s%s", drained.out, drained.err)

	before := w.queueFacts(far)
	if err := owner.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-owner.dead:
	case <-time.After(time.Minute):
		t.Fatal("the daemon that was followed does not leave")
	}
	if after := w.queueFacts(far); after != before {
		t.Errorf("the daemon that was followed changed what is known\n before %s\n after  %s", before, after)
	}

	w.mustStart()
	for id, want := range map[string]string{"good": "begun\n" + here + "\n", "bad": "begun\n" + here + "\n", "after": "far\n"} {
		if got := w.dspyOK("logs", id); got != want {
			t.Errorf("%s printed %q, want %q", id, got, want)
		}
	}
	if a := w.dspy("wait", "bad"); a.code != 7 {
		t.Errorf("the exit code of bad is %d: %s", a.code, a.err)
	}
	w.dspyOK("wait", "good", "after")
	for id, n := range w.runs() {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	w.checkOwnersOf(t)
}

// queueFacts is all that is known of the tasks, as the other host sees it.
func (w *world) queueFacts(h *otherHost) string {
	w.Helper()
	a := h.dspy("ps", "--json")
	w.wants(a, exitDone)
	return a.out
}
