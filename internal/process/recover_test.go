package process

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// noPid is above all that Linux gives.
const noPid = 1 << 23

// fakeCgroup makes a directory that looks like a cgroup with those processes.
func fakeCgroup(t *testing.T, path string, pids ...int) {
	t.Helper()
	must(t, os.Mkdir(path, 0o700))
	procs, populated := "", "populated 0\n"
	for _, pid := range pids {
		procs, populated = procs+strconv.Itoa(pid)+"\n", "populated 1\n"
	}
	must(t, os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(procs), 0o600))
	must(t, os.WriteFile(filepath.Join(path, "cgroup.events"), []byte(populated), 0o600))
}

// entry is a record about the first attempt of a task.
type entry struct {
	seq  uint64
	kind isJournalKind
}

// openWith opens a queue whose journal an earlier supervisor left so.
func openWith(t *testing.T, s *supervisor, entries ...entry) *queue {
	t.Helper()
	dir := t.TempDir()
	j, _, err := openJournal(dir, s.where.Boot)
	must(t, err)
	for _, e := range entries {
		j.add(name(e.seq), e.kind)
	}
	must(t, j.commit())
	must(t, j.close())
	q, err := s.openQueue(&supervisorpb.Hello{QueueId: queueHere, SpoolDir: []byte(dir)})
	must(t, err)
	t.Cleanup(func() { _ = q.journal.close() })
	return q
}

const queueHere = "recover"

func startedAs(pid int, cgroup string) *supervisorpb.Started {
	return &supervisorpb.Started{Pid: int32(pid), TicksTo: math.MaxUint64, Cgroup: []byte(cgroup)}
}

// Many attempts have had the same cgroup, one after the other. After a restart it
// is that of the one that is in it, whatever the journal says of others.
func TestCgroupOfAJournal(t *testing.T) {
	marked := markerVar + "=" + marker(queueHere, task.Ref{Seq: 2, Attempt: 1})
	path := filepath.Join(t.TempDir(), "1")
	child := beginChild(t, []string{marked}, "/bin/sleep", "1000").Process.Pid
	poll(t, "the program", func() bool { m, _ := markerOf(child); return m != "" })
	fakeCgroup(t, path, child)
	first, second := entry{1, startedAs(noPid, path)}, entry{2, startedAs(child, path)}
	for _, c := range []struct {
		name    string
		entries []entry
		owner   task.Seq // 0 = nobody
	}{
		{"after one that ended", []entry{first, {1, &supervisorpb.End{}}, second}, 2},
		{"after one that is forgotten", []entry{first, {1, &supervisorpb.End{}}, {1, &supervisorpb.Forgot{}}, second}, 2},
		{"after one whose end is not in it", []entry{first, second}, 2},
		{"of one that is gone", []entry{first}, 0},
		{"of one that left something behind", []entry{{2, startedAs(noPid, path)}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := bareSupervisor(t)
			s.cgroups = &cgroups{dir: filepath.Dir(path), found: map[string]bool{path: true}}
			for ref, a := range openWith(t, s, c.entries...).attempts {
				if got := a.proc.cgroup != nil; got != (ref.Seq == c.owner) {
					t.Errorf("task %d has the cgroup: %v", ref.Seq, got)
				}
				if a.proc.cgroup != nil {
					a.proc.cgroup.remove()
				}
			}
		})
	}
}

// A cgroup is for others when the journal says that its attempt has ended. Where
// it cannot say so, the cgroup is not used again.
func TestCgroupIsFreeWhenTheEndIsWritten(t *testing.T) {
	for _, written := range []bool{true, false} {
		t.Run(strconv.FormatBool(written), func(t *testing.T) {
			s := bareSupervisor(t)
			q := testQueue(t, s, "q")
			path := filepath.Join(t.TempDir(), "1")
			fakeCgroup(t, path)
			c := &cgroups{dir: filepath.Dir(path)}
			g, err := c.open(path)
			must(t, err)
			a := newAttempt(q, name(1), &supervisorpb.Claim{})
			a.phase, a.proc.cgroup = running, g
			s.mu.Lock()
			s.finish(a, &supervisorpb.End{})
			if len(c.free) != 0 {
				t.Error("it is free before the end is in the journal")
			}
			if !written {
				q.overdue(bootNow().add(sequelPatience))
			}
			s.mu.Unlock()
			s.flush(q, false)
			if !a.settled || g.spent.Load() == written || len(c.free) == 1 != written {
				t.Errorf("settled %v, spent %v, free %d", a.settled, g.spent.Load(), len(c.free))
			}
			for _, g := range c.free {
				g.remove()
			}
		})
	}
}

// What a main process left behind is not taken for it, when both began and one
// ended while no supervisor saw it.
func TestForkedAndGone(t *testing.T) {
	s := bareSupervisor(t)
	ref := task.Ref{Seq: 1, Attempt: 1}
	env := []string{markerVar + "=" + marker(queueHere, ref), "PATH=" + os.Getenv("PATH")}
	lead := beginChild(t, env, "/bin/sh", "-c", "sleep 1000 &")
	must(t, lead.Wait())
	a := openWith(t, s, entry{1, &supervisorpb.Claim{}}).attempts[ref]
	if a.phase != running || a.proc.pid != 0 {
		t.Errorf("phase %d, pid %d, of a session led by %d", a.phase, a.proc.pid, lead.Process.Pid)
	}
}

// While the main process is there it is found.
func TestForkedAndAlive(t *testing.T) {
	s := bareSupervisor(t)
	ref := task.Ref{Seq: 1, Attempt: 1}
	lead := beginChild(t, []string{markerVar + "=" + marker(queueHere, ref)}, "/bin/sleep", "1000").Process.Pid
	poll(t, "the program", func() bool { m, _ := markerOf(lead); return m != "" })
	a := openWith(t, s, entry{1, &supervisorpb.Claim{}}).attempts[ref]
	if a.phase != running || a.proc.pid != lead {
		t.Errorf("phase %d, pid %d, of %d", a.phase, a.proc.pid, lead)
	}
}

// A supervisor that cannot open all it needs keeps nothing open.
func TestOpenFilesAllOrNothing(t *testing.T) {
	old := eventfd
	t.Cleanup(func() { eventfd = old })
	for good := range 2 {
		left := good
		eventfd = func(n uint, flags int) (int, error) {
			if left--; left < 0 {
				return -1, unix.EMFILE
			}
			return old(n, flags)
		}
		s := &supervisor{}
		if err := s.openFiles(); err == nil {
			t.Fatal("it opened them")
		}
		if s.null.Close() == nil || s.leaveFD != -1 || s.needFD != -1 {
			t.Errorf("after %d: %d and %d are open", good, s.leaveFD, s.needFD)
		}
	}
}
