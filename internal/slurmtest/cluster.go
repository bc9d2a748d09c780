// Package slurmtest is Slurm clusters for tests: real ones, of the test's own, made by
// scripts/slurm-testbed.
//
// Start makes a Cluster for one test, Shared one for all tests of a binary. It needs what
// scripts/setup-tests installs; a test fails if a package is missing.
//
// It owns a folder per cluster, and every process below it. They go with the test; those
// of Shared, and all of them when the test binary is killed, are removed by a process that
// waits for its end, within seconds.
package slurmtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Config is what a cluster is like.
type Config struct {
	Nodes    int    // 0 = 4
	Settings string // more lines for slurm.conf
}

// A Cluster is one that a test may do with what it likes.
type Cluster struct {
	script, dir string
	cfg         Config
	guard       *exec.Cmd
	life        interface{ Close() error } // when it is closed, the guard removes everything
}

// Start starts a cluster, which is removed with all its jobs when the test ends.
func Start(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	notShort(t)
	c, err := open(cfg)
	if err != nil {
		t.Fatalf("slurmtest: %v", err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Errorf("slurmtest: the cluster was not removed: %v", err)
		}
	})
	return c
}

var shared struct {
	mu       sync.Mutex
	clusters map[Config]*Cluster
}

// Shared returns a cluster that all tests of the binary use which want one like it. They
// must not take it away from one another.
func Shared(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	notShort(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if c := shared.clusters[cfg]; c != nil {
		return c
	}
	c, err := open(cfg)
	if err != nil {
		t.Fatalf("slurmtest: %v", err)
	}
	if shared.clusters == nil {
		shared.clusters = map[Config]*Cluster{}
	}
	shared.clusters[cfg] = c
	return c
}

// Main runs the tests, and removes the clusters of Shared. Without it they go shortly
// after the binary.
func Main(m *testing.M) int {
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, c := range shared.clusters {
		if err := c.close(); err != nil {
			fmt.Fprintln(os.Stderr, "slurmtest: the cluster was not removed:", err)
			code = max(code, 1)
		}
	}
	return code
}

// notShort keeps clusters out of the tests that need nothing installed.
func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Slurm cluster; left out with -short")
	}
}

func open(cfg Config) (*Cluster, error) {
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dspy-slurm-") // short, as it is part of the names of sockets
	if err != nil {
		return nil, err
	}
	c := &Cluster{script: script, dir: dir, cfg: cfg}
	// It outlives a binary that is killed, and so is in a session of its own.
	c.guard = c.command("guard")
	c.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.life, err = c.guard.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.guard.Start(); err != nil {
		return nil, err
	}
	if err := c.do("up"); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *Cluster) close() error {
	if err := c.life.Close(); err != nil {
		return err
	}
	if err := c.guard.Wait(); err != nil {
		return fmt.Errorf("scripts/slurm-testbed down: %w", err)
	}
	return nil
}

func (c *Cluster) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.script, args...)
	cmd.Env = append(cmd.Environ(), "DSPY_SLURM_DIR="+c.dir, "DSPY_SLURM_SETTINGS="+c.cfg.Settings)
	if c.cfg.Nodes > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("DSPY_SLURM_NODES=%d", c.cfg.Nodes))
	}
	return cmd
}

func (c *Cluster) do(args ...string) error {
	cmd := c.command(args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("scripts/slurm-testbed %s: %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return nil
}

// Kill ends a part as kill -9 does: "slurmctld", or a node such as "n1".
func (c *Cluster) Kill(part string) error { return c.do("stop", part) }

// Revive starts a part again.
func (c *Cluster) Revive(part string) error { return c.do("start", part) }

// Dir is its folder.
func (c *Cluster) Dir() string { return c.dir }

// Conf is what SLURM_CONF has to be to reach it.
func (c *Cluster) Conf() string { return filepath.Join(c.dir, "slurm.conf") }

// Env is an environment for Slurm's commands.
func (c *Cluster) Env() []string {
	return append((&exec.Cmd{}).Environ(), "SLURM_CONF="+c.Conf())
}

// Command is one of Slurm's, as a user types it.
func (c *Cluster) Command(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = c.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func findScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "scripts", "slurm-testbed")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no scripts/slurm-testbed above the folder of the tests")
		}
		dir = filepath.Dir(dir)
	}
}
