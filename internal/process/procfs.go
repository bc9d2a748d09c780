package process

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// process is one line of the table of processes.
type process struct {
	pid, parent, group, session int
	start                       uint64 // in ticks since boot
	state                       byte
}

func (p process) zombie() bool { return p.state == 'Z' || p.state == 'X' }

// processes lists all processes, by pid. It costs a few microseconds for each,
// so only what is rare may call it.
func processes() (map[int]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close() // only read from
	if err != nil {
		return nil, err
	}
	out := make(map[int]process, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		p, err := look(pid)
		if exhausted(err) {
			return nil, err // one that is there must not be taken for gone
		}
		if err == nil {
			out[pid] = p
		}
	}
	return out, nil
}

// exhausted says that the machine had no means to look, which tells nothing
// about what is there.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// lookup reads one process; false if there is none with that pid.
func lookup(pid int) (process, bool) {
	p, err := look(pid)
	return p, err == nil
}

// look is lookup that says why not.
func look(pid int) (process, error) {
	st, err := host.ReadStat(pid)
	if err != nil {
		return process{}, err
	}
	return process{pid: pid, parent: st.Parent, group: st.Group, session: st.Session, start: st.Start, state: st.State}, nil
}

// zombieStatus returns how a process ended whose parent has not taken note yet.
func zombieStatus(pid int) (unix.WaitStatus, bool) {
	st, err := host.ReadStat(pid)
	if err != nil || st.State != 'Z' || st.Exit < 0 {
		return 0, false
	}
	return unix.WaitStatus(st.Exit), true
}

// markerOf reads the marker from a process's environment; "" if it has none or
// is not ours to read. Shells reorder what they hand on, so all of it is read.
func markerOf(pid int) (string, error) {
	env, err := environOf(pid)
	return markerIn(env), err
}

// markerIn finds the marker in an environment; "" if it has none.
func markerIn(env []byte) string {
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(markerVar+"=")); ok {
			return string(v)
		}
	}
	return ""
}

// signal sends a signal to exactly that process: should its pid belong to
// another one by now, nobody gets it. It says whether it went out.
func (p process) signal(sig unix.Signal) bool {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ENOSYS) { // Linux < 5.3
		return unix.Kill(p.pid, sig) == nil
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd) //nolint:errcheck // a pidfd has nothing to lose
	q, ok := lookup(p.pid)
	// It may have ended meanwhile.
	return ok && q.start == p.start && unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}
