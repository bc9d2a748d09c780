package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// greedy takes memory until it is killed.
const greedy = "exec tail /dev/zero"

// Out of memory is said where the attempt's own cgroup counted a kill, and only
// there: that others ran out of it at the same time says nothing.
func TestOutOfMemoryIsTheOwnCgroups(t *testing.T) {
	for _, c := range []struct {
		name   string
		status unix.WaitStatus
		own    string // memory.events; "" = no memory controller
		others uint64 // kills elsewhere on the machine
		oom    bool
		hint   string
	}{
		{"own", sigkilled, "oom 1\noom_kill 1\n", 0, true, ""},
		{"own and others", sigkilled, "oom_kill 2\n", 3, true, ""},
		{"others", sigkilled, "oom_kill 0\n", 3, false, "killed 3 on this machine"},
		{"nobody knows", sigkilled, "", 0, false, "perhaps by the kernel for lack of memory"},
		{"in a shell", 137 << 8, "oom_kill 1\n", 0, true, ""},
		{"in a shell, others", 137 << 8, "oom_kill 0\n", 5, false, ""},
		{"exit", 3 << 8, "oom_kill 1\n", 0, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &supervisor{oom: openOOMCounter()}
			a := &attempt{proc: proc{oomBefore: s.oom.last() - min(c.others, s.oom.last())}}
			if c.others > s.oom.last() {
				c.hint = "" // nobody was ever killed here, so nothing can be counted back
			}
			if c.own != "" {
				a.proc.cgroup = &cgroup{memory: fileWith(t, c.own)}
			}
			end := &supervisorpb.End{}
			s.setStatus(a, end, c.status)
			if end.GetOutOfMemory() != c.oom || !strings.Contains(end.GetMessage(), c.hint) {
				t.Errorf("end %v", end)
			}
		})
	}
}

const sigkilled = unix.WaitStatus(unix.SIGKILL)

func fileWith(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A task that the kernel kills at a real limit of memory, and one beside it that
// a person kills. Which of the two claims can be made depends on the machine: on
// one whose cgroups count memory by task the first ran out of memory; anywhere
// else nobody can say so, and both get the hint. The second never ran out of it.
func TestRealMemoryLimit(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	limit := memoryLimit(t, p)
	opts.Exe = limit.exe
	d := p.daemon(t, opts)
	gate := filepath.Join(p.dir, "gate")
	beside, hungry := assigned(t, 1, sh(waitFor(gate)+"kill -9 $$")), assigned(t, 2, sh(limit.program))
	d.launch(beside)
	d.await(beside.Ref(), task.EventStarted)
	d.launch(hungry)
	o := d.end(hungry.Ref()).Event.Outcome
	if limit.counted(t) == 0 {
		t.Errorf("the kernel killed nobody at the limit (%s)", limit.kind)
	}
	t.Logf("%s: class %q: %s", limit.kind, o.Class, o.Message)
	if limit.byTask != (o.Class == task.OutOfMemory) || o.Signal != 9 {
		t.Errorf("outcome %+v", o)
	}
	if !limit.byTask && !strings.Contains(o.Message, "lack of memory") {
		t.Errorf("the message gives no hint: %s", o.Message)
	}
	openGate(t, gate)
	o = d.end(beside.Ref()).Event.Outcome
	if o.Class == task.OutOfMemory || o.Signal != 9 || !strings.Contains(o.Message, "did not send") {
		t.Errorf("the one beside it: %+v", o)
	}
}

// limited is how this machine can be brought to kill a task for its memory.
type limited struct {
	kind    string
	exe     string // what becomes the supervisor; "" = the test itself
	program string
	byTask  bool // the task's own cgroup counts
	counted func(*testing.T) uint64
}

const limitBytes = 256 << 20

// memoryLimit finds a way: the task's own cgroup; a cgroup (v1) for supervisor
// and tasks; and where there is neither a program that is killed all the same.
func memoryLimit(t *testing.T, p *place) limited {
	t.Helper()
	if dir := ownMemoryCgroup(t, p); dir != "" {
		script := fmt.Sprintf("d=%s/$(sed -n 's/^0:://p' /proc/self/cgroup | sed 's,.*/\\(dspy-agent-\\),\\1,'); echo %d > $d/memory.max; ", dir, limitBytes)
		return limited{kind: "cgroup of the task", program: script + greedy, byTask: true, counted: func(*testing.T) uint64 { return 1 }}
	}
	if dir := sharedMemoryCgroup(t); dir != "" {
		exe := p.wrapped(t, "echo $$ > "+dir+"/cgroup.procs")
		return limited{kind: "cgroup v1 for all", exe: exe, program: greedy, counted: func(t *testing.T) uint64 {
			b, err := os.ReadFile(filepath.Join(dir, "memory.oom_control"))
			must(t, err)
			return counterIn(b, "oom_kill")
		}}
	}
	return limited{kind: "no cgroup", program: "kill -9 $$", counted: func(*testing.T) uint64 { return 1 }}
}

// ownMemoryCgroup returns the directory above the supervisors' sets where those
// count memory by task; "" = they do not.
func ownMemoryCgroup(t *testing.T, p *place) string {
	t.Helper()
	own, err := ownCgroup()
	if err != nil {
		return ""
	}
	c := openCgroups(filepath.Join(p.dir, "probe"), discard())
	if c == nil {
		return ""
	}
	defer c.close()
	g := c.take()
	defer g.release()
	if g == nil || g.memory == nil {
		return ""
	}
	return own
}

// sharedMemoryCgroup makes a cgroup (v1) with a limit; "" = none can be made.
func sharedMemoryCgroup(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] != "memory" {
			continue
		}
		dir := filepath.Join("/sys/fs/cgroup/memory", f[2], fmt.Sprintf("dspy-agent-test-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			return ""
		}
		t.Cleanup(func() {
			poll(t, "the removal of the test's cgroup", func() bool { return unix.Rmdir(dir) == nil })
		})
		if os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), fmt.Append(nil, limitBytes), 0) == nil {
			return dir
		}
	}
	return ""
}
