package process

import (
	"bufio"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ownSession runs a script in a session of its own, whose first line of output is
// the pid of a process that it leaves running.
func ownSession(t *testing.T, env []string, script string) (leader, other int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Env, cmd.SysProcAttr = env, &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	other, err = strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd.Process.Pid, other
}

// While no supervisor looked, the session of a task may have ended, and its number
// be that of somebody else's.
func TestSessionThatMayBeSomebodyElses(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	opts.NoCgroups = true
	b, err := New(opts)
	must(t, err)
	leader, other := ownSession(t, nil, "/bin/sleep 1000 >/dev/null & echo $!")
	poll(t, "the end of the leader", func() bool { q, ok := lookup(leader); return !ok || q.zombie() })
	must(t, reapChild(leader))
	id, err := host.This()
	must(t, err)
	writeJournal(t, b.spool, id.Boot, func(j *journal) {
		j.add(name(1), &supervisorpb.Claim{LogPath: []byte(b.layout.LogPath(task.Ref{Seq: 1, Attempt: 1}))})
		j.add(name(1), &supervisorpb.Started{Pid: int32(leader), TicksTo: 1})
	})
	tk := launchedAs(t, 1, handle{Host: id.Name, Machine: id.Machine, Boot: id.Boot, PIDs: id.PIDs, PID: int32(leader), Until: 1})
	d := p.watch(t, b, map[task.Ref][]task.Change{}, tk)
	if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventVanished {
		t.Fatalf("event %+v", ev)
	}
	if q, ok := lookup(other); !ok || q.zombie() {
		t.Fatal("a process without the marker was ended")
	}
}

// reapChild takes note of a child that has ended, so that its pid is free.
func reapChild(pid int) error {
	var r reaped
	return wait(pid, &r)
}

// What is started anew from somebody's shell with a task's marker does not make
// that shell the task. A program that hides its environment may be it.
func TestLeaderWithoutTheMarker(t *testing.T) {
	s := &supervisor{oom: openOOMCounter()}
	for what, c := range map[string]struct {
		env  []string
		main bool
	}{
		"a login shell":          {[]string{"HOME=/"}, false},
		"of another attempt":     {[]string{markerVar + "=q.2.1"}, false},
		"without an environment": {[]string{}, true},
	} {
		t.Run(what, func(t *testing.T) {
			leader, other := ownSession(t, c.env, markerVar+"=q.1.1 /bin/sleep 1000 & echo $!; wait")
			poll(t, "the marker", func() bool { m, _ := markerOf(other); return m == "q.1.1" })
			table, err := processes()
			must(t, err)
			want := 0
			if c.main {
				want = leader
			}
			if got := s.procMarked(table[other], table).pid; got != want {
				t.Errorf("the main process is %d, want %d", got, want)
			}
		})
	}
}
