package dockertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// Config is what an engine is like. The zero value is Docker as Debian's services
// run it: containerd is a daemon beside it, and containers end with dockerd.
type Config struct {
	Podman          bool   // Podman's service in the place of dockerd
	ContainerdChild bool   // dockerd starts its containerd, and both die together
	LiveRestore     bool   // containers outlive dockerd
	NoToolkit       bool   // dockerd does not find the stand-in for NVIDIA's container toolkit
	Store           string // what images and containers may take, such as "64m"; "" = no limit
}

// An Engine is one that a test may do with what it likes.
type Engine struct {
	script, dir string
	guard       *exec.Cmd
	life        interface{ Close() error } // when it is closed, the guard removes everything

	mu  sync.Mutex
	cfg Config
}

// Start starts an engine, which is removed with all its containers when the test
// ends.
func Start(t testing.TB, cfg Config) *Engine {
	t.Helper()
	notShort(t)
	e, err := open(cfg)
	if err != nil {
		refuse(t, err)
	}
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Errorf("dockertest: the engine was not removed: %v", err)
		}
	})
	return e
}

// shared is what Shared started.
var shared struct {
	mu      sync.Mutex
	engines map[Config]*Engine
}

// Shared returns an engine that all tests of the binary use which want one like
// it. They must not take it away from one another: a test that kills its engine
// starts its own.
func Shared(t testing.TB, cfg Config) *Engine {
	t.Helper()
	notShort(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if e := shared.engines[cfg]; e != nil {
		return e
	}
	e, err := open(cfg)
	if err != nil {
		refuse(t, err)
	}
	if shared.engines == nil {
		shared.engines = map[Config]*Engine{}
	}
	shared.engines[cfg] = e
	return e
}

// Main runs the tests, removes the engines of Shared and what was built, and
// waits until they are gone. Without it they go shortly after the binary.
func Main(m *testing.M) int {
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, e := range shared.engines {
		if err := e.close(); err != nil {
			fmt.Fprintln(os.Stderr, "dockertest: the engine was not removed:", err)
			code = max(code, 1)
		}
	}
	for _, dir := range built.dirs {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "dockertest: what was built was not removed:", err)
		}
	}
	return code
}

// notShort keeps engines out of the tests that need nothing installed.
func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs programs that scripts/setup-tests installs: make test runs it")
	}
}

// errForbidden is of machines on which no engine of a test's own can be made.
var errForbidden = errors.New("this machine does not allow it")

func refuse(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errForbidden) {
		t.Skipf("an engine of its own: %v: go test -run '^%s$' as root, on a machine that lets it", err, t.Name())
	}
	t.Fatalf("dockertest: %v", err)
}

// open starts an engine, and the process that removes it.
func open(cfg Config) (*Engine, error) {
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	// Short, as it is part of the names of sockets.
	dir, err := os.MkdirTemp("", "dspy-bed-")
	if err != nil {
		return nil, err
	}
	e := &Engine{script: script, dir: dir, cfg: cfg}
	if err := os.Chmod(dir, 0o755); err != nil { // for tests that act as another user
		return nil, err
	}
	if err := e.watch(); err != nil {
		return nil, err
	}
	if err := e.Up(); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// watch starts the guard: it outlives a binary that is killed, and so is in a
// session of its own.
func (e *Engine) watch() error {
	e.guard = e.command("guard")
	e.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	life, err := e.guard.StdinPipe()
	if err != nil {
		return err
	}
	e.life = life
	return e.guard.Start()
}

func (e *Engine) close() error {
	if err := e.life.Close(); err != nil {
		return err
	}
	if err := e.guard.Wait(); err != nil {
		return fmt.Errorf("scripts/docker-testbed down: %w", err)
	}
	return nil
}

func (e *Engine) command(verb string) *exec.Cmd {
	e.mu.Lock()
	defer e.mu.Unlock()
	cmd := exec.Command(e.script, verb)
	cmd.Env = append(cmd.Environ(),
		"DSPY_TESTBED_DIR="+e.dir,
		"DSPY_TESTBED_ENGINE="+e.kind(),
		"DSPY_TESTBED_CONTAINERD="+map[bool]string{true: "child", false: "apart"}[e.cfg.ContainerdChild],
		"DSPY_TESTBED_LIVE_RESTORE="+strconv.FormatBool(e.cfg.LiveRestore),
		"DSPY_TESTBED_STORE="+e.cfg.Store,
		"DSPY_TESTBED_TOOLKIT="+strconv.FormatBool(!e.cfg.NoToolkit),
	)
	return cmd
}

func (e *Engine) kind() string {
	if e.cfg.Podman {
		return "podman"
	}
	return "docker"
}

// Up starts what does not run of the engine, and returns when it answers.
func (e *Engine) Up() error {
	cmd := e.command("up")
	var said bytes.Buffer
	cmd.Stderr = &said
	// It ends with us, so that it starts nothing behind the guard's back. To the
	// kernel we are the thread that starts it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	err := cmd.Run()
	runtime.UnlockOSThread()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return fmt.Errorf("%w: %s", errForbidden, strings.TrimSpace(said.String()))
	}
	if err != nil {
		return fmt.Errorf("start the engine: %w\n%s", err, said.String())
	}
	return os.Chmod(e.Socket(), 0o666) // for tests that act as another user
}

// Kill ends the daemon as kill -9 does, and returns when it is gone. Its
// containerd goes with it if it is a child, and stays if it is not.
func (e *Engine) Kill() error { return e.signal(e.daemon(), unix.SIGKILL) }

// KillContainerd ends a containerd that runs apart, as kill -9 does. After Up a
// dockerd that was not killed refuses containers until it has found the new one.
func (e *Engine) KillContainerd() error { return e.signal("containerd", unix.SIGKILL) }

// Stop ends the daemon as a service manager does: in peace, with its containers
// unless it restores them.
func (e *Engine) Stop() error { return e.signal(e.daemon(), unix.SIGTERM) }

// SetLiveRestore says whether containers outlive the daemon that Up starts next.
func (e *Engine) SetLiveRestore(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cfg.LiveRestore = on
}

func (e *Engine) daemon() string {
	if e.cfg.Podman {
		return "podman"
	}
	return "dockerd"
}

// PID returns the number of the daemon.
func (e *Engine) PID() (int, error) { return e.pid(e.daemon()) }

func (e *Engine) pid(name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(e.dir, name+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// signal sends a signal to a part of the engine, and waits until it is gone.
func (e *Engine) signal(name string, sig unix.Signal) error {
	pid, err := e.pid(name)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s, process %d: %w", name, pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s, process %d: %w", name, pid, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the end of %s: %w", name, err)
		case n == 0:
			return fmt.Errorf("%s, process %d, did not end within a minute after %v", name, pid, sig)
		default:
			return nil
		}
	}
}

// Socket returns the path of its API's socket. It is the same after Up.
func (e *Engine) Socket() string { return filepath.Join(e.dir, e.kind()+".sock") }

// Address returns what DOCKER_HOST has to be to reach it.
func (e *Engine) Address() string { return "unix://" + e.Socket() }

// Log returns what the daemon wrote, for the message of a test that fails.
func (e *Engine) Log() string {
	text, err := os.ReadFile(filepath.Join(e.dir, e.daemon()+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Client returns a client of it, for what tests do behind the product's back.
func (e *Engine) Client(t testing.TB) *client.Client {
	t.Helper()
	return Client(t, e.Address())
}

// Client returns a client of the engine at an address.
func Client(t testing.TB, address string) *client.Client {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost(address), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) //nolint:errcheck // nothing is left to be lost
	return c
}

// findScript looks above the folder of the tests.
func findScript() (string, error) {
	root, err := Root()
	return filepath.Join(root, "scripts", "docker-testbed"), err
}

// Root returns the folder of the module, above that of the tests.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the folder of the tests")
		}
		dir = filepath.Dir(dir)
	}
}
