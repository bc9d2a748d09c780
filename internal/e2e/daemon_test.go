package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

type daemon struct {
	cmd  *exec.Cmd
	dead chan struct{} // closed when it has ended
}

// daemon returns the newest daemon, dead or alive; nil before the first start.
func (w *world) daemon() *daemon {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// start runs the daemon and returns once it accepts calls. With failpoints it
// may die before; then ok is false. Other goroutines than the test's use launch.
func (w *world) start(extraEnv ...string) (ok bool) {
	w.Helper()
	ok, err := w.launch(extraEnv...)
	if err != nil {
		w.Fatal(err)
	}
	return ok
}

// launch is start, and may be called by any goroutine.
func (w *world) launch(extraEnv ...string) (ok bool, err error) {
	d, said, err := w.spawn(extraEnv...)
	if err != nil {
		return false, err
	}
	if said == nil {
		<-d.dead
		return false, nil
	}
	if !said.OK {
		return false, fmt.Errorf("the daemon did not start: %s", said.Error)
	}
	return true, nil
}

// startPatience is how long a daemon may take to say that it accepts calls.
const startPatience = 30 * time.Second

// announcement is what a daemon says once, when it accepts calls or cannot.
type announcement struct {
	OK          bool
	Code, Error string
}

// spawn runs the daemon and returns what it says; nil when it died before.
func (w *world) spawn(extraEnv ...string) (*daemon, *announcement, error) {
	r, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	defer pw.Close()
	out, err := os.OpenFile(filepath.Join(w.runtime, "daemon.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(w.bin, "orchestrator"), "--workspace", w.workspace, "--ready-fd", "3")
	cmd.Env = append(append([]string{}, w.env...), extraEnv...)
	cmd.ExtraFiles = []*os.File{pw}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	d := &daemon{cmd: cmd, dead: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // killed, mostly
		close(d.dead)
	}()
	w.mu.Lock()
	w.current = d
	w.mu.Unlock()
	if err := pw.Close(); err != nil {
		return d, nil, err
	}
	if err := r.SetReadDeadline(time.Now().Add(startPatience)); err != nil {
		return d, nil, err
	}
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it shows where it hangs
		<-d.dead
		return d, nil, fmt.Errorf("the daemon said nothing for %s:\n%s", startPatience, tail(filepath.Join(w.runtime, "daemon.out"), 300))
	}
	if err != nil {
		return d, nil, nil //nolint:nilerr // it died without a word, which may be what was wanted
	}
	var said announcement
	if err := json.Unmarshal(line, &said); err != nil {
		return d, nil, fmt.Errorf("the daemon said %q: %w", line, err)
	}
	return d, &said, nil
}

func (w *world) mustStart(extraEnv ...string) {
	w.Helper()
	if !w.start(extraEnv...) {
		w.Fatalf("the daemon died at its start:\n%s", tail(filepath.Join(w.runtime, "daemon.out"), 40))
	}
}

func (w *world) killDaemon() {
	d := w.daemon()
	_ = d.cmd.Process.Kill()
	<-d.dead
}

// endDaemon asks the daemon to leave, and waits until it has.
func (w *world) endDaemon() {
	w.Helper()
	d := w.daemon()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.Fatal(err)
	}
	select {
	case <-d.dead:
	case <-time.After(30 * time.Second):
		w.Fatal("the daemon does not leave after SIGTERM")
	}
}
