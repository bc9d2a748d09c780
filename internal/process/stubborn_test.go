package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// stubbornGrace is the grace of these tasks, and endsWithin how long after it
	// they may still be there.
	stubbornGrace = 300 * time.Millisecond
	endsWithin    = 5 * time.Second
)

// stubborn are programs that do not want to end. READY is replaced by what says
// that they are at it.
func stubborn(ready string) map[string]string {
	return map[string]string{
		"stopped": "touch " + ready + "; kill -STOP $$; exec sleep 1000",
		"deaf":    "trap '' TERM; touch " + ready + "; while :; do sleep 1; done",
		// 60 shells, each of which starts one program after the other.
		"forking": "trap '' TERM; i=0; while [ $i -lt 60 ]; do (while :; do sleep 0.05; done) & i=$((i+1)); done; touch " + ready + "; wait",
		// Each process lives just long enough to start the next.
		"hydra": "trap '' TERM; head() { head & }; touch " + ready + "; head",
	}
}

// What does not want to end is ended when its grace is over, whole and soon.
func TestStubbornTasksEnd(t *testing.T) {
	for _, noCgroups := range []bool{false, true} {
		for what := range stubborn("") {
			t.Run(fmt.Sprintf("%s noCgroups=%v", what, noCgroups), func(t *testing.T) {
				p := newPlace(t)
				opts := p.options("q")
				opts.NoCgroups = noCgroups
				d := p.daemon(t, opts)
				ready := filepath.Join(p.dir, "ready")
				spec := sh(stubborn(ready)[what])
				spec.Grace = stubbornGrace
				tk := assigned(t, 1, spec)
				d.launch(tk)
				group := startedPid(t, d, tk)
				t.Cleanup(func() { _ = unix.Kill(-group, unix.SIGKILL) })
				poll(t, "the program", func() bool { _, err := os.Stat(ready); return err == nil })
				begin := time.Now()
				must(t, d.Stop(t.Context(), tk))
				d.end(tk.Ref())
				took := time.Since(begin)
				t.Logf("it ended after %s", took)
				if took > stubbornGrace+endsWithin {
					t.Errorf("it ended %s after the stop", took)
				}
				if left := marked(t, marker(opts.QueueID, tk.Ref())); len(left) > 0 {
					t.Errorf("its end was told, and there are still %v", left)
				}
				// The table of processes can miss one that is always another; the group cannot.
				poll(t, "the end of its process group", func() bool { return unix.Kill(-group, 0) != nil })
			})
		}
	}
}

// marked returns the living processes with a marker.
func marked(t *testing.T, want string) (out []process) {
	t.Helper()
	table, marks, err := census()
	must(t, err)
	for pid, m := range marks {
		if m == want && !table[pid].zombie() {
			out = append(out, table[pid])
		}
	}
	return out
}

// startedPid returns the pid of a task when it has started.
func startedPid(t *testing.T, d *daemon, tk task.Task) int {
	t.Helper()
	h, ok := decodeHandle(d.await(tk.Ref(), task.EventLaunched).Event.Handle)
	if !ok || h.PID <= 1 {
		t.Fatalf("handle %+v", h)
	}
	return int(h.PID)
}
