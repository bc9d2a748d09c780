package hosttest

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Process is one with which a test talks: it is sent lists of words, and says lines.
type Process struct {
	t   *testing.T
	Cmd *exec.Cmd
	in  *json.Encoder
	out *bufio.Reader
}

// Start starts this test binary again, with more in its environment, until the test ends.
// apart gives it namespaces in which it can assume an Identity.
func Start(t *testing.T, apart bool, env ...string) *Process {
	t.Helper()
	if apart && os.Getuid() != 0 {
		t.Skip("making up a host needs root")
	}
	p := &Process{t: t, Cmd: exec.Command(os.Args[0])}
	p.Cmd.Env = append(p.Cmd.Environ(), env...)
	p.Cmd.Stderr = os.Stderr
	if apart {
		p.Cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID}
	}
	in, err := p.Cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = p.Cmd.Start()
	if errors.Is(err, unix.EPERM) {
		t.Skip("this container may not make namespaces")
	}
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = json.NewEncoder(in), bufio.NewReader(out)
	t.Cleanup(p.Kill)
	return p
}

// Kill ends it, and with it all that runs in its namespaces, as a loss of power does.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // it may have ended
	_ = p.Cmd.Wait()
}

// Signal sends it a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// Send sends it words.
func (p *Process) Send(words ...string) {
	p.t.Helper()
	if err := p.in.Encode(words); err != nil {
		p.t.Fatal(err)
	}
}

// Hear returns the next line that it says.
func (p *Process) Hear() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the process on the other host says nothing more: %v", err)
	}
	return strings.TrimSpace(line)
}

// Ask sends it words, and returns what it says to them.
func (p *Process) Ask(words ...string) string {
	p.t.Helper()
	p.Send(words...)
	return p.Hear()
}

// Words calls say with what a test sends to this process, until the test has ended or say
// returns an error.
func Words(say func(words []string) error) error {
	in := json.NewDecoder(os.Stdin)
	for {
		var words []string
		if in.Decode(&words) != nil {
			return nil
		}
		if err := say(words); err != nil {
			return err
		}
	}
}
