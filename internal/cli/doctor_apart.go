package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/doctor"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A file server that hangs can hold a process up for ever, in a call to the kernel
// that no time-out and not even SIGKILL ends. So doctor touches no file itself: the
// checks are made in a second process, the hidden command below, which prints what
// each has found. What has said nothing when the time is up is told to be silent, and
// that process is killed and not waited for.

const cmdExamine = "__examine"

// examined is a line between the two.
type examined struct {
	Queue    string        `json:"queue,omitempty"` // the folder, as soon as it is known; no check then
	Check    string        `json:"check,omitempty"`
	Findings []jsonFinding `json:"findings,omitempty"`
}

// examineCommand makes the checks and prints a line of JSON for each.
func (s *session) examineCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdExamine, Usage: "make the checks of doctor", Hidden: true,
		Action: func(c *cli.Context) error {
			lines := json.NewEncoder(s.out)
			s.examine(c, func(e examined) { _ = lines.Encode(e) }) // Main looks at errors of the output
			return nil
		},
	})
}

// examine makes the checks here and tells of each as soon as it has ended, one at a
// time.
func (s *session) examine(c *cli.Context, tell func(examined)) {
	var mu sync.Mutex
	p := s.patient(c)
	load := p.Load
	p.Load = func() doctor.Loaded {
		l := load()
		if l.Usable {
			mu.Lock()
			defer mu.Unlock()
			tell(examined{Queue: l.Config.QueueDir})
		}
		return l
	}
	doctor.Examine(c.Context, p, func(name string, found []doctor.Finding) {
		mu.Lock()
		defer mu.Unlock()
		tell(examined{Check: name, Findings: findingsJSON(found)})
	})
}

// isDoctor says whether a command line, as arranged, is that of doctor.
func isDoctor(args []string) bool {
	i := slices.IndexFunc(args[1:], func(a string) bool { return !strings.HasPrefix(a, "-") })
	return i >= 0 && args[1+i] == cmdDoctor
}

// findings has the checks made and returns what all have found. Where our own program
// cannot be found they are made in this process.
func (s *session) findings(c *cli.Context) ([]doctor.Finding, error) {
	r := report{told: map[string]bool{}}
	if s.env.Executable == "" {
		if err := s.findFolder(c.Context); err != nil {
			return nil, err
		}
		s.examine(c, r.take)
		return inOrder(r.found), nil
	}
	err := s.examineApart(c, r.take)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && !interrupted(c.Context):
		r.found = append(r.found, doctor.Silent(r.told, r.queue)...)
	case err != nil:
		return nil, err
	}
	return inOrder(r.found), nil
}

// report is what was told so far.
type report struct {
	found []doctor.Finding
	told  map[string]bool // by name of the check
	queue string
}

func (r *report) take(e examined) {
	if e.Check == "" {
		r.queue = e.Queue
		return
	}
	r.told[e.Check] = true
	for _, f := range e.Findings {
		r.found = append(r.found, doctor.Finding{Name: f.Name, Status: doctor.Status(f.Status), Text: f.Text, Mend: f.Mend})
	}
}

// examineApart has the checks made by a process of their own. The error is
// os.ErrDeadlineExceeded when that had not ended in time.
func (s *session) examineApart(c *cli.Context, tell func(examined)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(s.env.Executable, examineArgs(c)...)
	cmd.Env, cmd.Stdout = s.env.Environ, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children are killed with it
	err = cmd.Start()
	_ = w.Close() // a copy is the child's
	if err != nil {
		return fmt.Errorf("start %s for the checks: %w", s.env.Executable, err)
	}
	if err := s.readExamined(c.Context, r, tell); err != nil {
		return errors.Join(err, killGroup(cmd.Process))
	}
	if err := cmd.Wait(); err != nil {
		return task.Errorf(task.CodeInternal, "the process that makes the checks ended early: %w", err)
	}
	return nil
}

// examineArgs is the command line of the process that makes the checks.
func examineArgs(c *cli.Context) []string {
	var args []string
	for _, flag := range []string{"workspace", cmdConfig} {
		if v := c.String(flag); v != "" {
			args = append(args, "--"+flag+"="+v)
		}
	}
	return append(args, cmdExamine)
}

// readExamined reads until all is said, time is up or somebody interrupts.
func (s *session) readExamined(ctx context.Context, r *os.File, tell func(examined)) error {
	if err := r.SetReadDeadline(time.Now().Add(doctor.Limit)); err != nil {
		return fmt.Errorf("wait for the checks: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	lines := json.NewDecoder(r)
	for {
		var e examined
		switch err := lines.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read what the checks found: %w", err)
		}
		tell(e)
	}
}

// killGroup kills a process and its children, and does not wait for them: one that
// hangs in the kernel ends when that lets it go.
func killGroup(p *os.Process) error {
	err := syscall.Kill(-p.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		err = nil
	}
	return errors.Join(err, p.Release())
}
