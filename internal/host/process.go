package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Process names one process for good. A pid alone comes again; with its start
// and its boot it does not.
type Process struct {
	PID   int
	Start uint64 // ticks since boot, 100 a second
	Boot  string // see BootID
}

// Self returns the running process.
func Self() (Process, error) {
	boot, err := BootID()
	if err != nil {
		return Process{}, err
	}
	st, err := ReadStat(os.Getpid())
	if err != nil {
		return Process{}, err
	}
	return Process{PID: st.PID, Start: st.Start, Boot: boot}, nil
}

// Runs says whether the process is there, on this boot and in this pid
// namespace. What cannot be looked at does not run, nor does one that has ended and
// is only waited for by its parent, which in a container may be never.
func (p Process) Runs() bool {
	state := p.state()
	return state != 0 && state != 'Z' && state != 'X'
}

// Suspended says whether the process is there and stopped, by a signal (Ctrl-Z, SIGSTOP)
// or by a debugger.
func (p Process) Suspended() bool {
	return Stat{State: p.state()}.Suspended()
}

// state returns Stat.State; 0 = the process cannot be looked at, or is not there.
func (p Process) state() byte {
	boot, err := BootID()
	if err != nil || boot != p.Boot {
		return 0
	}
	st, err := ReadStat(p.PID)
	if err != nil || st.Start != p.Start {
		return 0
	}
	return st.State
}

// ErrStat is returned for a line of /proc that is none.
var ErrStat = errors.New("unexpected content of /proc/PID/stat")

// Stat is one line of the table of processes.
type Stat struct {
	PID, Parent, Group, Session int
	Start                       uint64 // ticks since boot, 100 a second
	State                       byte   // 'R', 'S', 'Z' ...; see proc(5)
	Exit                        int    // the wait status of a zombie; -1 = not shown to us
}

// Suspended says whether the process is stopped, by a signal or by a debugger.
func (s Stat) Suspended() bool { return s.State == 'T' || s.State == 't' }

// ReadStat reads /proc/PID/stat. An error that wraps fs.ErrNotExist means that
// there is no process with that pid.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	st, err := parseStat(b)
	if err != nil {
		return Stat{}, fmt.Errorf("%w of pid %d", err, pid)
	}
	st.PID = pid
	return st, nil
}

// The fields of /proc/PID/stat behind the name, counted from 0; proc(5) numbers
// the first of them 3.
const (
	fieldState   = 0
	fieldParent  = 4 - 3
	fieldGroup   = 5 - 3
	fieldSession = 6 - 3
	fieldStart   = 22 - 3
	fieldExit    = 52 - 3
)

// parseStat reads a line but for the pid.
func parseStat(b []byte) (Stat, error) {
	// The name, in parentheses, may hold anything, parentheses included.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return Stat{}, ErrStat
	}
	f := bytes.Fields(b[i+1:])
	if len(f) <= fieldStart || len(f[fieldState]) != 1 {
		return Stat{}, ErrStat
	}
	start, err := strconv.ParseUint(string(f[fieldStart]), 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("%w: %w", ErrStat, err)
	}
	num := func(i int) int {
		n, _ := strconv.Atoi(string(f[i])) // the kernel writes numbers there
		return n
	}
	st := Stat{Parent: num(fieldParent), Group: num(fieldGroup), Session: num(fieldSession), Start: start, State: f[fieldState][0], Exit: -1}
	if len(f) > fieldExit && st.State == 'Z' {
		st.Exit = num(fieldExit)
	}
	return st, nil
}
