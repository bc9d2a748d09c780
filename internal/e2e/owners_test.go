package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dropfolder"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// rival is a process that wants to own the queue.
type rival struct {
	cmd  *exec.Cmd
	dead chan struct{} // closed when it has ended
}

// rival starts one. What it prints is kept for a test that fails.
func (w *world) rival(program string, args ...string) *rival {
	w.Helper()
	out, err := os.OpenFile(filepath.Join(w.runtime, "rivals.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.Fatal(err)
	}
	defer out.Close()
	r := &rival{cmd: exec.Command(filepath.Join(w.bin, program), append(args, "--workspace", w.workspace)...), dead: make(chan struct{})}
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr, r.cmd.Dir = w.env, out, out, w.workspace
	if err := r.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // killed, mostly
		close(r.dead)
	}()
	return r
}

// ended says whether it has ended by itself.
func (r *rival) ended() bool {
	select {
	case <-r.dead:
		return true
	default:
		return false
	}
}

// end sends a signal, and waits for the end.
func (r *rival) end(sig syscall.Signal) {
	_ = r.cmd.Process.Signal(sig) // it may have ended by itself
	<-r.dead
}

// Drains and daemons begin at random moments, are killed or asked to leave, and find
// each other: there is never more than one owner, and each task runs once. Tasks come
// through the drop folder, which needs no owner.
func TestOwnersTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	if err := os.MkdirAll(w.queueDir, 0o700); err != nil {
		t.Fatal(err)
	}
	var ids []string
	var rivals []*rival
	for range rounds(12, 200) {
		for range rnd.IntN(4) {
			ids = append(ids, w.drop(fmt.Sprintf("t%d", len(ids))))
		}
		rivals = slices.DeleteFunc(rivals, (*rival).ended)
		switch k := rnd.IntN(5); {
		case k < 2 || len(rivals) == 0:
			rivals = append(rivals, w.rival("dspy-agent", "drain", "--for", fmt.Sprintf("%dms", 200+rnd.IntN(1500))))
		case k == 2:
			rivals = append(rivals, w.rival("orchestrator"))
		default:
			i := rnd.IntN(len(rivals))
			rivals[i].end([]syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM}[rnd.IntN(3)])
		}
		pauseFor(time.Duration(rnd.IntN(250)) * time.Millisecond)
	}
	for _, r := range rivals {
		r.end(syscall.SIGTERM)
	}
	w.dspyOK("drain", "--for", "1m")

	ran := w.runs()
	for _, id := range ids {
		if ran[id] != 1 {
			t.Errorf("%s ran %d times", id, ran[id])
		}
		w.outcomeOf(id)
	}
	w.checkOwners()
	if t.Failed() {
		t.Logf("the rivals' output ends with:\n%s", tail(filepath.Join(w.runtime, "rivals.out"), 40))
	}
	t.Logf("%d tasks", len(ids))
}

// drop puts a task that notes that it ran into the drop folder.
func (w *world) drop(id string) string {
	w.Helper()
	payload, err := json.Marshal(map[string]string{"command": `echo "$DSPY_TASK_ID" >> ` + w.workspace + `/ran; sleep 0.1`})
	if err != nil {
		w.Fatal(err)
	}
	if _, err := dropfolder.Put(w.queueDir, dropfolder.File{ID: id, Payload: payload}); err != nil {
		w.Fatal(err)
	}
	return id
}

// outcomes are those of dropped tasks, by id: "" for one that went well, else what is said.
func (w *world) outcomes() map[string]string {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(w.queueDir, "done", "*.json"))
	if err != nil {
		w.Fatal(err)
	}
	all := make(map[string]string, len(files))
	for _, f := range files {
		var done struct{ ID, Status, Error string }
		b, err := os.ReadFile(f)
		if err = errors.Join(err, json.Unmarshal(b, &done)); err != nil {
			w.Fatal(err)
		}
		if all[done.ID] = ""; done.Status != task.WireCompleted {
			all[done.ID] = done.Status + ": " + done.Error
		}
	}
	return all
}

// outcomeOf fails the test unless the outcome of a dropped task says that it went well.
func (w *world) outcomeOf(id string) {
	w.Helper()
	w.wentWell(w.outcomes(), id)
}

func (w *world) wentWell(outcomes map[string]string, id string) {
	w.Helper()
	switch said, there := outcomes[id]; {
	case !there:
		w.Errorf("%s has no outcome", id)
	case said != "":
		w.Errorf("%s is %s", id, said)
	}
}

// checkOwners looks at the fencing numbers in the event log: a former owner that wrote
// once more would show as one that is lower than the one before it.
func (w *world) checkOwners() {
	w.Helper()
	ctx := context.Background()
	q, err := queue.Open(ctx, queue.Options{Dir: w.queueDir, ReadOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	defer q.Close()
	if err := q.Check(ctx); err != nil { // it looks at the fencing numbers, too
		w.Error(err)
	}
	records, err := q.Records(1, 1_000_000)
	if err != nil {
		w.Fatal(err)
	}
	var fence uint64
	owners := 0
	for _, r := range records {
		if r.Fence < fence || r.Fence == 0 {
			w.Errorf("event %d was written by owner %d, after owner %d", r.Index, r.Fence, fence)
		}
		if r.Fence > fence {
			owners++
		}
		fence = r.Fence
	}
	w.Logf("%d events by %d owners", len(records), owners)
}

// A daemon that starts asks a drain for the queue; what the drain has started goes on.
func TestDaemonTakesFromDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	if err := os.MkdirAll(w.queueDir, 0o700); err != nil {
		t.Fatal(err)
	}
	payload := fmt.Sprintf(`{"command": "echo begun; until [ -e %s/go ]; do sleep 0.05; done; echo \"$DSPY_TASK_ID\" >> %s/ran"}`, w.workspace, w.workspace)
	if _, err := dropfolder.Put(w.queueDir, dropfolder.File{ID: "long", Payload: json.RawMessage(payload)}); err != nil {
		t.Fatal(err)
	}
	drain := w.rival("dspy-agent", "drain")
	w.eventually(30*time.Second, "the task runs", func() bool { return len(w.tasks()) > 0 })
	w.dspyOK("start")
	defer w.dspyOK("stop")
	<-drain.dead
	if code := drain.cmd.ProcessState.ExitCode(); code != exitDone {
		t.Errorf("the drain ended with %d:\n%s", code, tail(filepath.Join(w.runtime, "rivals.out"), 5))
	}
	if err := os.WriteFile(filepath.Join(w.workspace, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.dspyOK("wait", "long")
	if n := w.runs()["long"]; n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// The folder of the queue is removed under a daemon ("rm -rf logs"): nothing more is
// acknowledged into nothing, and the daemon leaves and says why.
func TestFolderRemovedUnderDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	w.dspyOK("submit", "--id", "before", "--wait", "--", "true")
	if err := os.RemoveAll(filepath.Dir(w.queueDir)); err != nil {
		t.Fatal(err)
	}
	if a := w.dspy("submit", "--id", "after", "--", "true"); a.code == exitDone {
		t.Errorf("a submission is acknowledged: %q %q", a.out, a.err)
	}
	select {
	case <-w.daemon().dead:
	case <-time.After(30 * time.Second):
		t.Fatal("the daemon stays")
	}
	if said := tail(filepath.Join(w.runtime, "daemon.out"), 5); !strings.Contains(said, "was removed while it was in use") {
		t.Errorf("it said %q", said)
	}
	w.mustStart() // anew
	w.dspyOK("submit", "--id", "after", "--wait", "--", "true")
	w.endDaemon()
}
