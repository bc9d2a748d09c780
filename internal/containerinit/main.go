package containerinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes of an init that has not started the program.
const (
	Cannot = 125 // it cannot do its work here; it says why on standard error
	Taken  = 124 // the attempt has begun before, or was withdrawn
)

// Threads is how many an init has at most: they count where processes are limited.
const Threads = 8

const (
	// drainPatience is how long output may take to be read when its writers are dead.
	drainPatience = 10 * time.Second
	// endPatience is how long it is tried to write down the end.
	endPatience = 10 * time.Second
)

// Args are those with which the init is called: the folder of the record, how much of the
// output is kept at most, and the program.
func Args(dir string, limit int64, argv []string) []string {
	return append([]string{dir, strconv.FormatInt(limit, 10)}, argv...)
}

// Main runs the program of an attempt, and returns the exit code of the container. All
// signals that can be caught have to come by the channel.
func Main(args, environ []string, signals <-chan os.Signal) int {
	runtime.GOMAXPROCS(1) // it mostly waits, beside a program that has its own use for threads
	if len(args) < 3 || os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "dspy-init: it is the first process of a container that dspy-agent makes, and nothing else")
		return Cannot
	}
	dir, argv := args[0], args[2:]
	limit, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		fmt.Fprintf(os.Stderr, "dspy-init: %q is no size\n", args[1])
		return Cannot
	}
	out, err := openOutput(dir, limit)
	if err != nil {
		fmt.Fprintf(os.Stderr, "dspy-init: cannot write the output: %v\n", err)
		return Cannot
	}
	lock, err := claimIn(dir)
	switch {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintln(os.Stderr, "dspy-init: the attempt has begun before; it is not begun again")
		return Taken
	case err != nil:
		fmt.Fprintf(os.Stderr, "dspy-init: %v\n", err)
		return Cannot
	}
	var end End
	if err := out.begin(dir); err != nil {
		end = End{At: time.Now(), Code: Cannot, Trouble: fmt.Sprintf("its output cannot be written: %v", err)}
	} else {
		end = program{argv: argv, environ: environ}.run(out, signals)
	}
	if err := end.keep(dir); err != nil {
		fmt.Fprintf(os.Stderr, "dspy-init: cannot write down how the program ended: %v\n", err)
	}
	runtime.KeepAlive(lock) // until the end
	return end.Code
}

// claimIn takes the claim of the attempt whose record is in a folder.
func claimIn(dir string) (*os.File, error) {
	d, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("claim the attempt: %w", err)
	}
	defer d.close()
	return d.take(claim{Version: version, Boot: bootID(), At: time.Now()})
}

// program is what runs in the container.
type program struct{ argv, environ []string }

// run runs the program to its end, and to that of all that it left behind.
func (p program) run(out *output, signals <-chan os.Signal) End {
	pid, err := p.start(out)
	if err != nil {
		e := End{At: time.Now(), Code: codeOf(err), Trouble: fmt.Sprintf("%s: %v", p.argv[0], err)}
		out.say("dspy-init: " + e.Trouble + "\n")
		e.Dropped = out.dropped.Load()
		return e
	}
	copied := make(chan struct{})
	go func() { defer close(copied); out.copy() }()
	ended, alone := make(chan syscall.WaitStatus, 1), make(chan struct{})
	go func() { defer close(alone); bury(pid, ended) }()
	asked := false
	for {
		select {
		case s := <-signals:
			asked = pass(pid, s) || asked
			continue
		case ws := <-ended:
			e := endOf(ws)
			e.Asked = asked
			// As the kernel would do it after us; but so their last words can be read.
			_ = unix.Kill(-1, unix.SIGKILL)
			out.hurry()
			out.drain(alone, copied)
			e.OOM, e.Dropped = ranOutOfMemory(), out.dropped.Load()
			return e
		}
	}
}

// start starts the program in a process group of its own.
func (p program) start(out *output) (pid int, err error) {
	path, err := p.lookPath()
	if err != nil {
		return 0, err
	}
	var pipes [2][2]int
	for i := range pipes {
		if err := unix.Pipe2(pipes[i][:], unix.O_CLOEXEC); err != nil {
			return 0, err
		}
	}
	attr := &syscall.ProcAttr{
		Env: p.environ, Files: []uintptr{0, uintptr(pipes[0][1]), uintptr(pipes[1][1])},
		Sys: &syscall.SysProcAttr{Setpgid: true},
	}
	pid, err = syscall.ForkExec(path, p.argv, attr)
	if errors.Is(err, unix.ENOEXEC) { // as execvp(3) does it: a script that does not say whose
		pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", path}, p.argv[1:]...), attr)
	}
	for i := range pipes {
		out.pipes[i] = pipes[i][0]
		_ = unix.Close(pipes[i][1])
	}
	return pid, err
}

// codeOf is the exit code for a program that could not be run.
func codeOf(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// bury waits for all that dies, until nobody is left.
func bury(pid int, ended chan<- syscall.WaitStatus) {
	for {
		var ws syscall.WaitStatus
		died, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return
		case died == pid:
			ended <- ws
		}
	}
}

func endOf(ws syscall.WaitStatus) End {
	e := End{At: time.Now(), Code: ws.ExitStatus()}
	if ws.Signaled() {
		e.Signal = int(ws.Signal())
		e.Code = 128 + e.Signal
	}
	return e
}

// pass passes a signal on to the program. True says that it asks for the end.
func pass(pid int, s os.Signal) bool {
	sig, ok := s.(syscall.Signal)
	switch {
	case !ok, sig == unix.SIGCHLD, sig == unix.SIGURG, sig == unix.SIGPIPE: // our own runtime's and our own children's
		return false
	}
	_ = unix.Kill(pid, sig)
	return sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT || sig == unix.SIGHUP || sig > unix.SIGSYS
}
