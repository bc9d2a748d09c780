package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const cmdStart = "start"

// daemonProgram is the name of the daemon's binary.
const daemonProgram = "orchestrator"

// startTimeout is how long a daemon may take until it accepts calls; opening a
// big queue on a slow file system takes a while.
const startTimeout = 60 * time.Second

func (s *session) startCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdStart, Usage: "start the daemon, and return when it accepts tasks", Category: categoryDaemon,
		Description: "Where a daemon runs already, says so and ends with 0. From a subfolder of a workspace that has\n" +
			"a queue the daemon of that one is meant; --workspace . makes one of the folder itself.\n" +
			"What the daemon prints goes to\n" +
			"logs/orchestrator.out in the workspace, its log to logs/orchestrator.log\n" +
			"(a new file at 32 MB; five old ones are kept, named by their time).",
		Flags: []cli.Flag{
			takeOverFlag(),
			boolFlag("foreground", "become the daemon instead of starting it in the background"),
			&cli.StringFlag{Name: "start-timeout", Usage: "give up waiting after `TIME` (default: DSPY_AGENT_SERVICE_TIMEOUT seconds, or 60)"},
		},
		Action: s.start,
	})
}

func (s *session) start(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	cfg, err := s.config(c)
	if err != nil {
		return err
	}
	limit, err := s.startLimit(c)
	if err != nil {
		return err
	}
	if err := needFolder(cfg); err != nil {
		return err
	}
	s.tellAbove(c.String("workspace"), cfg)
	if found, err := s.tellRunning(c.Context, cfg); found {
		return err
	}
	program, err := s.findDaemon()
	if err != nil {
		return err
	}
	s.daemonPID(c.Context, cfg.QueueDir) // whoever has the queue for a moment is let finish
	if c.Bool("foreground") {
		argv := append(append([]string{program}, daemonArgs(c, cfg)...), "--foreground")
		if err := s.env.Exec(program, argv, s.env.Environ); err != nil {
			return fmt.Errorf("run %s: %w", program, err)
		}
		return nil
	}
	return s.launch(c.Context, cfg, program, daemonArgs(c, cfg), limit)
}

// takeOverFlag is for what owns the queue for longer than a call.
func takeOverFlag() cli.Flag {
	return boolFlag("take-over", "go on from a copy of the queue where its owner, on another host, gives no sign of life")
}

// daemonArgs are the arguments of the daemon's program.
func daemonArgs(c *cli.Context, cfg config.Config) []string {
	args := cfg.Args()
	if c.Bool("take-over") {
		args = append(args, "--take-over")
	}
	return args
}

func (s *session) startLimit(c *cli.Context) (time.Duration, error) {
	if given := c.String("start-timeout"); given != "" {
		d, err := parseSpan(given)
		if err != nil {
			return 0, usagef("--start-timeout: %s", err)
		}
		return d, nil
	}
	if given := s.env.getenv("DSPY_AGENT_SERVICE_TIMEOUT"); given != "" {
		d, err := parseSpan(given)
		if err != nil {
			return 0, usagef("DSPY_AGENT_SERVICE_TIMEOUT: %s", err)
		}
		return d, nil
	}
	return startTimeout, nil
}

// tellRunning says so if a daemon runs already. One that does not answer is an
// error: it holds the queue, so that another could not have it. A drain is asked to
// leave it, and the error is errDrainLeft where one has.
func (s *session) tellRunning(ctx context.Context, cfg config.Config) (found bool, err error) {
	h, err := s.health(ctx, ofWorkspace(cfg))
	switch {
	case errors.Is(err, api.ErrSilent):
		return true, err
	case err != nil:
		return false, nil //nolint:nilerr // none that could be spoken to: starting one will tell why
	case h.GetRole() == api.RoleDrain:
		return s.takeFromDrain(ctx, int(h.GetPid()))
	}
	s.out.printf("already running: pid %d, since %s, for %s\n", h.GetPid(), clock(h.GetStartedAtNs()), cfg)
	if note := configChanged(cfg, h); note != "" { // and what it listens at says nothing about the ports that are configured now
		s.err.printf("note: %s\n", note+startAnew)
		return true, nil
	}
	s.tellDoors(ctx, cfg, h)
	return true, nil
}

// ofWorkspace leads to the workspace's own daemon, through its socket. An address in the
// environment may be that of another workspace's, which commands then call; but the
// daemon that is started or stopped is the one of this workspace.
func ofWorkspace(cfg config.Config) config.Config {
	cfg.GRPCAddr = ""
	return cfg
}

// healthTimeout is how long a daemon may take to say how it is.
const healthTimeout = 5 * time.Second

// health asks the daemon how it is.
func (s *session) health(ctx context.Context, cfg config.Config) (*pb.HealthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	cl, err := s.dial(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cl.close() }()
	return cl.Health(ctx, &pb.HealthRequest{})
}

// findDaemon returns the path of the daemon's binary.
func (s *session) findDaemon() (string, error) { return s.findProgram(daemonProgram) }

// findProgram returns the path of a daemon's binary: of the one that was built and
// installed together with this program, else of the one in PATH.
func (s *session) findProgram(name string) (string, error) {
	beside := ""
	if s.env.Executable != "" {
		beside = filepath.Join(filepath.Dir(s.env.Executable), name)
		if executable(beside) {
			return beside, nil
		}
	}
	for _, dir := range filepath.SplitList(s.env.getenv("PATH")) {
		if p := filepath.Join(dir, name); filepath.IsAbs(p) && executable(p) {
			return p, nil
		}
	}
	return "", task.Errorf(task.CodeNotFound, "the daemon's program %q is neither at %s nor in PATH; install it beside %s", name, beside, Program)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// tellDoors says, of each TCP address that was taken, which one the daemon has
// instead, in the form that makes other programs find it; and of each that it cannot
// serve, why. h may be nil: then nothing is known of the latter.
func (s *session) tellDoors(ctx context.Context, cfg config.Config, h *pb.HealthResponse) {
	var o app.Owner
	if live := liveOwner(cfg.QueueDir); live != nil {
		o = *live
	}
	for _, door := range []struct{ name, service, variable, wanted, has string }{
		{"gRPC", "grpc", envGRPCAddr, cfg.GRPCListen, o.GRPC},
		{"HTTP", "http", "ORCHESTRATOR_HTTP_ADDR", cfg.HTTPListen, o.HTTP},
	} {
		if why, down := strings.CutPrefix(h.GetServices()[door.service], "down: "); down {
			s.err.printf("warning: %s is not served at %s: %s; commands work all the same, through the socket\n", door.name, door.wanted, oneLine(why))
			continue
		}
		_, wanted, err := net.SplitHostPort(door.wanted)
		_, has, hasErr := net.SplitHostPort(door.has)
		if err == nil && hasErr == nil && wanted != has && wanted != "0" {
			s.tellMoved(ctx, cfg, door.service, wanted, fmt.Sprintf("%s=%s", door.variable, door.has))
		}
	}
}

// tellMoved says that a port was taken, and how a program finds the daemon all the same.
// The variable is for that program: exported, it would lead the next commands in every
// folder here.
func (s *session) tellMoved(ctx context.Context, cfg config.Config, service, wanted, setting string) {
	_, has, _ := strings.Cut(setting, "=")
	if service == "grpc" && s.tellAddressHeld(ctx, cfg, has) {
		return
	}
	s.err.printf("note: port %s is taken; a program finds this daemon with: %s python x.py\n", wanted, setting)
}

// launch starts the daemon in the background and waits for its word. Cron may have been
// faster with a drain, which had not said yet who it is: it is asked to leave as well,
// and the daemon started once more.
func (s *session) launch(ctx context.Context, cfg config.Config, program string, args []string, limit time.Duration) error {
	err := s.launchOnce(ctx, cfg, program, args, limit)
	if errors.Is(err, errDrainLeft) {
		err = s.launchOnce(ctx, cfg, program, args, limit)
	}
	if errors.Is(err, errDrainLeft) {
		return task.Errorf(task.CodeUnavailable, "one drain after the other has the queue; start again when none is begun")
	}
	return err
}

// launchOnce returns errDrainLeft where a drain had the queue, and has left it.
func (s *session) launchOnce(ctx context.Context, cfg config.Config, program string, args []string, limit time.Duration) error {
	if err := app.LogFolderAnswers(ctx, cfg); err != nil {
		return err
	}
	d, err := spawnDaemon(cfg, daemonProgram, program, args, s.env.Environ)
	if err != nil {
		return notSpawned(err)
	}
	said, err := d.await(ctx, limit, s.tellStart(cfg, d.pid))
	s.err.settle()
	switch {
	case interrupted(ctx):
		s.err.printf("\nno longer waiting; the daemon goes on starting as pid %d\n", d.pid)
		return err
	case err == nil && said.OK:
		s.out.printf("started: pid %d, for %s\n", said.PID, cfg)
		h, _ := s.health(ctx, ofWorkspace(cfg)) // it has said that it serves; what else it has to say can wait
		s.tellDoors(ctx, cfg, h)
		return nil
	}
	found, rival := s.tellRunning(ctx, cfg)
	switch {
	case found, errors.Is(rival, errDrainLeft):
		return rival // somebody else was faster
	case err == nil:
		code, _ := parseCode(said.Code)
		return task.Errorf(code, "the daemon could not start: %s", said.Error)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &exitError{code: exitNoDaemon, msg: fmt.Sprintf(
			"the daemon (pid %d) does not accept calls after %s; it goes on trying, %s tells how far it is", d.pid, span(limit), cfg.LogDir+"/orchestrator.log")}
	default:
		return &exitError{code: exitFailed, msg: "the daemon ended before it accepted calls" + d.lastWords()}
	}
}

// notSpawned says what to do about a folder that a daemon could not begin in.
func notSpawned(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return forbidden(err)
	case diskRefuses(err):
		return task.Errorf(task.CodeExhausted, "%w; the daemon writes its log there: have it writable, or use another workspace", err)
	default:
		return err
	}
}

// announcement is what the daemon writes to its ready descriptor, once.
type announcement struct {
	OK    bool   `json:"ok"`
	PID   int    `json:"pid"`
	Code  string `json:"code"`
	Error string `json:"error"`
}

// newborn is a daemon that was started and has not spoken yet.
type newborn struct {
	pid    int
	ready  *os.File // ends without a line if it dies
	output string   // path of what it prints
	from   int64    // where its output begins there
}

// await returns what the daemon says. tell is told meanwhile for how long it has said
// nothing.
func (d *newborn) await(ctx context.Context, limit time.Duration, tell func(waited time.Duration)) (announcement, error) {
	defer d.ready.Close()
	stop := context.AfterFunc(ctx, func() { _ = d.ready.Close() })
	defer stop()
	var said announcement
	line, err := d.line(limit, tell)
	if ctx.Err() != nil {
		return said, ctx.Err()
	}
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	return said, err
}

// line reads the one line that the daemon writes.
func (d *newborn) line(limit time.Duration, tell func(waited time.Duration)) ([]byte, error) {
	const look = tellHeldAfter
	begun := time.Now()
	var all []byte
	for room := make([]byte, 4<<10); ; {
		left := limit - time.Since(begun)
		if left <= 0 {
			return nil, fmt.Errorf("wait for the daemon: %w", os.ErrDeadlineExceeded)
		}
		if err := d.ready.SetReadDeadline(time.Now().Add(min(look, left))); err != nil {
			return nil, fmt.Errorf("wait for the daemon: %w", err)
		}
		n, err := d.ready.Read(room)
		all = append(all, room[:n]...)
		switch line, _, whole := bytes.Cut(all, []byte("\n")); {
		case whole:
			return line, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			tell(time.Since(begun))
		case err != nil:
			return nil, fmt.Errorf("wait for the daemon: %w", err)
		}
	}
}

// lastWords returns what a daemon that died had printed.
func (d *newborn) lastWords() string {
	const most = 4 << 10
	f, err := os.Open(d.output)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, most)
	size, err := f.Seek(0, 2)
	if err != nil {
		return ""
	}
	n, _ := f.ReadAt(buf, max(d.from, size-most))
	if n == 0 {
		return " and printed nothing; its log is beside " + d.output
	}
	return "; it printed:\n" + string(buf[:n])
}

// spawnDaemon starts the program of a daemon in a session of its own, so that it outlives
// the terminal, with nothing to read and its output in a file of the daemon's name.
func spawnDaemon(cfg config.Config, name, program string, args, environ []string) (*newborn, error) {
	if err := app.MakeLogFolder(cfg); err != nil {
		return nil, err
	}
	d := &newborn{output: filepath.Join(cfg.LogDir, name+".out")}
	out, err := os.OpenFile(d.output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's output: %w", err)
	}
	defer out.Close()
	if info, err := out.Stat(); err == nil {
		d.from = info.Size()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the daemon: %w", err)
	}
	defer w.Close()
	const readyFD = 3 // the first of ExtraFiles
	cmd := exec.Command(program, append(args, "--ready-fd", strconv.Itoa(readyFD))...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{w}
	cmd.Dir, cmd.Env = cfg.Workspace, environ
	cmd.SysProcAttr = ownSession()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), r.Close())
	}
	d.pid, d.ready = cmd.Process.Pid, r
	return d, cmd.Process.Release()
}
