package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// manyTasks is how many run at once in the test of threads, and mostThreads is
// what the supervisor may have for them: those that it has from the beginning, the
// main thread, and what Go's own runtime keeps.
const (
	manyTasks   = 500
	mostThreads = 2 * spareThreads
)

// However many tasks run at once, the supervisor has a few threads.
func TestThreadsAreBounded(t *testing.T) {
	for _, pidfds := range []bool{true, false} {
		t.Run(fmt.Sprintf("pidfds=%v", pidfds), func(t *testing.T) {
			if !pidfds {
				t.Setenv(envNoPidfds, "1")
			}
			p := newPlace(t)
			d := p.daemon(t, p.options("q"))
			fifo := filepath.Join(p.dir, "fifo")
			must(t, unix.Mkfifo(fifo, 0o600))
			var tasks []task.Task
			for seq := task.Seq(1); seq <= manyTasks; seq++ {
				tasks = append(tasks, assigned(t, seq, argv("cat", fifo)))
			}
			d.launch(tasks...)
			for _, tk := range tasks {
				d.await(tk.Ref(), task.EventStarted)
			}
			n := threadsOf(t, p.supervisorPid(t))
			t.Logf("%d threads with %d tasks", n, manyTasks)
			if n > mostThreads {
				t.Errorf("the supervisor has %d threads for %d tasks, want at most %d", n, manyTasks, mostThreads)
			}
			poll(t, "the end of all", func() bool {
				releaseReaders(fifo)
				return d.count(task.EventExited) == manyTasks
			})
			for _, tk := range tasks {
				if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventExited || ev.Outcome.ExitCode != 0 {
					t.Fatalf("event %+v", ev)
				}
			}
		})
	}
}

// releaseReaders ends those that wait for or read from the FIFO.
func releaseReaders(fifo string) {
	if fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Close(fd)
	}
}

func threadsOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	return len(entries)
}

// With few file descriptors there are few tasks at a time, instead of tasks that
// cannot start; each gets its turn.
func TestActiveTasksAreBounded(t *testing.T) {
	const files, most, all = filesForOthers + 20*filesPerAttempt, 20, 50
	p := newPlace(t)
	opts := p.options("q")
	opts.Exe = p.wrapped(t, fmt.Sprintf("ulimit -n %d", files))
	d := p.daemon(t, opts)
	fifo := filepath.Join(p.dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	var tasks []task.Task
	for seq := task.Seq(1); seq <= all; seq++ {
		tasks = append(tasks, assigned(t, seq, argv("cat", fifo)))
	}
	d.launch(tasks...)
	for _, tk := range tasks[:most] {
		d.await(tk.Ref(), task.EventStarted)
	}
	must(t, d.Stop(t.Context(), tasks[all-1]))
	if ev := d.end(tasks[all-1].Ref()).Event; ev.Kind != task.EventStopped {
		t.Fatalf("event %+v", ev)
	}
	if n := d.count(task.EventStarted); n != most {
		t.Errorf("%d run at once, want %d", n, most)
	}
	poll(t, "the end of all", func() bool {
		releaseReaders(fifo)
		return d.count(task.EventExited) == all-1
	})
}

// wrapped returns a program that does something first and is the supervisor then.
func (p *place) wrapped(t *testing.T, first string) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	path := filepath.Join(p.dir, "exe")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+first+"\nexec "+self+" \"$@\"\n"), 0o700))
	return path
}

// Once the supervisor serves it makes no thread more for what is usual: with a task
// that leaves its user no processes it could have none.
func TestThreadsAreThereBeforeTasks(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.NoCgroups = true // then to end a task takes more
	d := p.daemon(t, opts)
	d.connected()
	before := threadsOf(t, p.supervisorPid(t))
	var tasks []task.Task
	for seq := task.Seq(1); seq <= 100; seq++ {
		tasks = append(tasks, assigned(t, seq, sh("sleep 1000 & wait")))
	}
	d.launch(tasks...)
	for _, tk := range tasks {
		d.await(tk.Ref(), task.EventStarted)
	}
	for _, tk := range tasks {
		must(t, d.Stop(t.Context(), tk))
	}
	for _, tk := range tasks {
		d.end(tk.Ref())
	}
	after := threadsOf(t, p.supervisorPid(t))
	t.Logf("%d threads, then %d", before, after)
	if after > before {
		t.Errorf("the supervisor had %d threads, and needed %d", before, after)
	}
}
