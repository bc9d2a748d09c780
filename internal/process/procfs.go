package process

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
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
	f, err := statFields(pid)
	if err != nil {
		return process{}, err
	}
	num := func(i int) int {
		n, _ := strconv.Atoi(string(f[i])) // the kernel writes numbers there
		return n
	}
	start, err := strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return process{}, err
	}
	return process{pid: pid, parent: num(1), group: num(2), session: num(3), start: start, state: f[0][0]}, nil
}

// errStat is returned for a line of /proc that is none.
var errStat = errors.New("unexpected content of /proc/PID/stat")

// statFields returns the fields of /proc/PID/stat from the state on, which
// proc(5) numbers from 3.
func statFields(pid int) ([][]byte, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The name, in parentheses, may hold anything, parentheses included.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil, errStat
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return nil, errStat
	}
	return f, nil
}

// zombieStatus returns how a process ended whose parent has not taken note yet.
func zombieStatus(pid int) (unix.WaitStatus, bool) {
	const exitCode = 52 - 3
	f, err := statFields(pid)
	if err != nil || f[0][0] != 'Z' || len(f) <= exitCode {
		return 0, false
	}
	n, err := strconv.ParseUint(string(f[exitCode]), 10, 32)
	return unix.WaitStatus(n), err == nil
}

// markerOf reads the marker from a process's environment; "" if it has none or
// is not ours to read. Shells reorder what they hand on, so all of it is read.
func markerOf(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return "", err
	}
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(markerVar+"=")); ok {
			return string(v), nil
		}
	}
	return "", nil
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
