package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// command runs a command line of this world from any goroutine, and returns its exit
// code, -1 when it was killed, and what it said.
func (w *world) command(args ...string) (code int, said string, err error) {
	cmd := exec.Command(filepath.Join(w.bin, "dspy-agent"), args...)
	cmd.Env, cmd.Dir = w.env, w.workspace
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), string(out), err
}

// queueOwner returns the pid that owner.json names; 0 if it names none that runs.
func (w *world) queueOwner() int {
	b, err := os.ReadFile(filepath.Join(w.queueDir, "owner.json"))
	if err != nil {
		return 0
	}
	var o queue.Owner
	if json.Unmarshal(b, &o) != nil || !(host.Process{PID: o.PID, Start: o.StartTicks, Boot: o.BootID}).Runs() {
		return 0
	}
	return o.PID
}

// wantTasks fails the test unless the queue has these tasks, each once, and is sound.
func (w *world) wantTasks(ids []string) {
	w.Helper()
	q, err := queue.Open(w.Context(), queue.Options{Dir: w.queueDir, ReadOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			w.Error(err)
		}
	}()
	if err := q.Check(w.Context()); err != nil {
		w.Error(err)
	}
	var got []string
	for f := (task.Filter{Limit: 1000}); ; {
		page, next, err := q.List(f)
		if err != nil {
			w.Fatal(err)
		}
		for _, t := range page {
			got = append(got, t.Spec.ID)
		}
		if f.Before = next; next == 0 {
			break
		}
	}
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		w.Errorf("the queue has %d tasks, want %d, each once:\n%.2000q", len(got), len(ids), got)
	}
}

// TestManySubmissionsWithoutDaemon: hundreds of them at the same moment, and some that
// have the queue are killed. Each waits for its turn and is stored once; who was killed
// keeps nobody out, and can be repeated.
func TestManySubmissionsWithoutDaemon(t *testing.T) {
	t.Parallel()
	submissions, kills := rounds(100, 300), int32(rounds(8, 20))
	w := newWorld(t, binaries.plain)
	var ids []string
	for i := range submissions {
		ids = append(ids, fmt.Sprintf("task-%d", i))
	}
	var killed atomic.Int32
	done := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for killed.Load() < kills {
			select {
			case <-done:
				return
			default:
			}
			if pid := w.queueOwner(); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed.Add(1)
			}
			pauseFor(10 * time.Millisecond)
		}
	})
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			for {
				code, said, err := w.command("submit", "--workspace", w.workspace, "--id", id, "--", "true")
				switch {
				case err != nil:
					t.Errorf("%s: %v", id, err)
					return
				case code == exitDone && strings.HasPrefix(said, id+"\n"):
					return
				case code != -1:
					t.Errorf("%s ended with %d: %s", id, code, said)
					return
				}
			}
		})
	}
	all.Wait()
	close(done)
	killer.Wait()
	if killed.Load() == 0 {
		t.Error("nobody was killed")
	}
	w.wantTasks(ids)
	// A daemon finds them, and nothing that stands in its way.
	w.mustStart()
	if a := w.dspy("cancel", "--class", "cpu_short"); a.code != exitDone {
		t.Errorf("cancel: %d %s", a.code, a.err)
	}
	w.endDaemon()
}

// TestDaemonStartsAmongCommands: commands of all kinds, and a daemon that starts and
// leaves while they run. Each command does what it is for, with the daemon or without.
func TestDaemonStartsAmongCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.dspyOK("submit", "--workspace", w.workspace, "--id", "first", "--", "true")
	ids := []string{"first"}
	for round := range rounds(4, 60) {
		var all sync.WaitGroup
		run := func(want int, args ...string) {
			all.Go(func() {
				code, said, err := w.command(args...)
				if err != nil || code != want {
					t.Errorf("round %d: %q ended with %d, want %d: %s%v", round, args, code, want, said, err)
				}
			})
		}
		for n := range 3 {
			id := fmt.Sprintf("task-%d-%d", round, n)
			ids = append(ids, id)
			run(exitDone, "submit", "--id", id, "--", "true")
		}
		run(exitDone, "ps")
		run(exitDone, "show", "first")
		run(exitNotFound, "cancel", "nobody")
		run(exitDone, "pause", "cpu_long")
		w.mustStart()
		run(exitDone, "resume", "cpu_long")
		run(exitDone, "queue", "stats")
		all.Wait()
		w.endDaemon()
	}
	w.wantTasks(ids)
}

// TestSubmissionIsSuspended: a command that is stopped while it has the queue is named
// within a few seconds, by all that need it, and does no harm when it goes on.
func TestSubmissionIsSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.dspyOK("submit", "--workspace", w.workspace, "--id", "a", "--", "true")
	holder := w.holdQueue()
	for _, args := range [][]string{{"submit", "--id", "b", "--", "true"}, {"ps"}, {"cancel", "a"}, {"status"}} {
		began := time.Now()
		a := w.dspy(args...)
		w.wants(a, exitNoDaemon, fmt.Sprintf("pid %d", holder.Process.Pid), "kill -CONT", "dspy-agent stop")
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%q took %s", args, took)
		}
	}
	w.wants(w.dspy("drain", "--quiet"), exitNoDaemon, "is suspended; nothing was done: kill -CONT")
	w.wants(w.dspy("queue", "compact"), exitRefused, "it is suspended: kill -CONT")
	if err := holder.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := holder.Wait(); err != nil {
		t.Errorf("the command that was stopped: %v: %s", err, holder.Stderr)
	}
	w.dspyOK("submit", "--id", "b", "--", "true")
	w.dspyOK("show", fmt.Sprintf("held-%d", heldTasks-1))
}

// TestDrainIsSuspended: a drain that is stopped does nothing, which one from cron says
// instead of leaving it to that; one that goes on is left at it.
func TestDrainIsSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.dspyOK("submit", "--workspace", w.workspace, "--id", "a", "--", "sleep", "600")
	first := exec.Command(filepath.Join(w.bin, "dspy-agent"), "drain", "--for", "5m")
	first.Env, first.Dir = w.env, w.workspace
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	pid := first.Process.Pid
	t.Cleanup(func() {
		if first.ProcessState == nil {
			_ = first.Process.Kill() // after a failure
			_ = first.Wait()
		}
	})
	w.poll("the drain has the queue, and answers", func() bool { return w.queueOwner() == pid && w.dspy("why", "a").code == exitDone })
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.poll("it is stopped", func() bool { return stopped(pid) })
	for _, args := range [][]string{{"drain"}, {"drain", "--quiet"}} {
		w.wants(w.dspy(args...), exitNoDaemon, fmt.Sprintf("pid %d (drain)", pid), fmt.Sprintf("is suspended; nothing was done: kill -CONT %d", pid))
	}
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.poll("it answers again", func() bool { return w.dspy("drain").code == exitDone })
	w.dspyOK("cancel", "a")
	if err := first.Wait(); err != nil {
		t.Errorf("the drain that was stopped: %v", err)
	}
}

// written is when the database was written last.
func (w *world) written() time.Time {
	info, err := os.Stat(filepath.Join(w.queueDir, "queue-000001.db"))
	if err != nil {
		w.Fatal(err)
	}
	return info.ModTime()
}

// heldTasks is how many tasks holdQueue submits: many commits.
const heldTasks = 10_000

// holdQueue submits a file, and stops the command in the middle of it, when it has
// stored some of the tasks.
func (w *world) holdQueue() *exec.Cmd {
	w.Helper()
	var lines strings.Builder
	for i := range heldTasks {
		fmt.Fprintf(&lines, `{"id":"held-%d","argv":["true"]}`+"\n", i)
	}
	for range 20 {
		cmd := exec.Command(filepath.Join(w.bin, "dspy-agent"), "submit", "--from-file", "-")
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stderr = w.env, w.workspace, strings.NewReader(lines.String()), &bytes.Buffer{}
		if err := cmd.Start(); err != nil {
			w.Fatal(err)
		}
		pid := cmd.Process.Pid
		w.Cleanup(func() {
			if cmd.ProcessState == nil {
				_ = cmd.Process.Kill() // after a failure
				_ = cmd.Wait()
			}
		})
		w.poll("the command opens the queue", func() bool { return w.queueOwner() == pid || !alive(pid) })
		before := w.written()
		w.poll("it stores tasks", func() bool { return !w.written().Equal(before) || !alive(pid) })
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			w.Fatal(err)
		}
		w.poll("it is stopped", func() bool { return stopped(pid) || !alive(pid) })
		if w.queueOwner() == pid {
			return cmd
		}
		_ = cmd.Process.Signal(syscall.SIGCONT) // it was faster
		if err := cmd.Wait(); err != nil {
			w.Fatal(err)
		}
	}
	w.Fatal("no command could be stopped while it had the queue")
	return nil
}

// poll returns once something is so, which nobody announces.
func (w *world) poll(what string, is func() bool) {
	w.Helper()
	for late := time.Now().Add(cliPatience); !is(); pauseFor(time.Millisecond) {
		if time.Now().After(late) {
			w.Fatalf("not after %s: %s", cliPatience, what)
		}
	}
}
