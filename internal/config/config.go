// Package config holds every setting of the product and its default, in one
// place, and reads the settings that are given.
//
// It owns no state and reads the outside world only through the values passed
// in, so that a test can give it any environment. It guarantees that a Config
// it returns is complete and consistent: paths are absolute, every class is
// valid. There is nothing to recover after a crash.
package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Config is the effective configuration.
type Config struct {
	// Workspace is the folder that relative paths are resolved against.
	Workspace string
	// QueueDir holds the queue's database, the spool of running work and the
	// output of tasks. ENV_QUEUE_DIR.
	QueueDir string
	// LogDir holds the logs of the daemons.
	LogDir string
	// RuntimeDir is XDG_RUNTIME_DIR; "" when the login gave none.
	RuntimeDir string
	// GRPCAddr, when set by ORCHESTRATOR_GRPC_ADDR, is where a client dials
	// instead of the Unix socket.
	GRPCAddr string

	Classes map[string]Class
	// Capacity of this machine for tasks. 0 = what the machine and its cgroup have.
	CPUMilli int64
	MemBytes int64

	Retention Retention
	Output    Output
	// Nice is added to the scheduling niceness of local tasks.
	Nice int
}

// Class is a kind of task: its limits and where it may run.
type Class struct {
	Name string
	// Limit is how long a task of the class is expected to run at most; 0 = no
	// expectation. It plans, warns and sorts; it kills only with Enforce.
	Limit   time.Duration
	Enforce bool
	// Parallel is how many of the class may be active at once; 0 = as many as
	// the machine's capacity allows.
	Parallel int
	// Short says that tasks of the class are expected to be so short that they
	// may be placed ahead of a free slot.
	Short bool
	// GPUs a task of the class needs unless it says otherwise.
	GPUs int
	// Backends it may go to, best first.
	Backends []string
	// AliasOf is the class that this one is an old name of.
	AliasOf string
	// Later says which part, not yet there, the class waits for.
	Later string
}

// Retention says how long what has ended is kept.
type Retention struct {
	Age          time.Duration // of ended tasks, with their output
	Count        int           // of ended tasks, at most
	TombstoneAge time.Duration // how long the id of a removed task is remembered
	EventAge     time.Duration // of the event log
	EventMax     int           // records in the event log, at most
}

// Output limits what is kept of a task.
type Output struct {
	MaxLogBytes    int64 // per attempt; beyond it the middle of the output is dropped
	MaxResultBytes int64 // of the JSON object that a task returns
}

// Names of the classes that every queue has.
const (
	ClassCPUShort = "cpu_short"
	ClassCPULong  = "cpu_long"
	ClassGPUShort = "gpu_short"
	ClassGPULong  = "gpu_long"
	ClassGPU      = "gpu"
	ClassGPUSlurm = "gpu_slurm"
)

// DefaultClass is the class of a task that names none.
const DefaultClass = ClassCPUShort

// Default returns the settings that hold when nothing is given. It is the only
// place where a default is written.
func Default(workspace string) Config {
	return Config{
		Workspace: workspace,
		QueueDir:  filepath.Join(workspace, "logs", "env_queue"),
		LogDir:    filepath.Join(workspace, "logs"),
		Classes: map[string]Class{
			ClassCPUShort: {Name: ClassCPUShort, Limit: time.Minute, Short: true, Backends: []string{"process"}},
			ClassCPULong:  {Name: ClassCPULong, Backends: []string{"process"}},
			ClassGPUShort: {Name: ClassGPUShort, Limit: 5 * time.Minute, GPUs: 1, Backends: []string{"process"}, Later: laterGPU},
			ClassGPULong:  {Name: ClassGPULong, GPUs: 1, Backends: []string{"process"}, Later: laterGPU},
			ClassGPU:      {Name: ClassGPU, AliasOf: ClassGPULong, GPUs: 1, Backends: []string{"process"}, Later: laterGPU},
			ClassGPUSlurm: {Name: ClassGPUSlurm, GPUs: 1, Backends: []string{"slurm"}, Later: laterSlurm},
		},
		Retention: Retention{
			Age: 7 * 24 * time.Hour, Count: 1_000_000,
			TombstoneAge: 90 * 24 * time.Hour, EventAge: 7 * 24 * time.Hour, EventMax: 5_000_000,
		},
		Output: Output{MaxLogBytes: 1 << 30, MaxResultBytes: 4 << 20},
	}
}

const (
	laterGPU   = "GPU scheduling is not in this release yet; use cpu_short or cpu_long, or select GPUs yourself with --env CUDA_VISIBLE_DEVICES=..."
	laterSlurm = "the Slurm backend is not in this release yet; use cpu_short or cpu_long"
)

// Given is what the caller found outside: flags and environment. An empty
// string means "not given".
type Given struct {
	WorkspaceFlag string              // --workspace
	Cwd           string              // where the command runs
	Lookup        func(string) string // environment
}

// Load returns the effective configuration: a flag wins over the environment,
// which wins over the default. Relative paths are resolved against the
// workspace, never against where a daemon happens to run.
func Load(g Given) (Config, error) {
	env := g.Lookup
	if env == nil {
		env = func(string) string { return "" }
	}
	ws := g.WorkspaceFlag
	if ws == "" {
		ws = g.Cwd
	}
	if !filepath.IsAbs(ws) {
		ws = filepath.Join(g.Cwd, ws)
	}
	if !filepath.IsAbs(ws) {
		return Config{}, task.Errorf(task.CodeInvalid, "workspace %q is not a path that can be made absolute", ws)
	}
	// The same folder reached by two ways must be one workspace, with one socket.
	if real, err := filepath.EvalSymlinks(ws); err == nil {
		ws = real
	}
	c := Default(filepath.Clean(ws))
	if v := env("ENV_QUEUE_DIR"); v != "" {
		c.QueueDir = c.resolve(v)
	}
	c.GRPCAddr = env("ORCHESTRATOR_GRPC_ADDR")
	if v := env("XDG_RUNTIME_DIR"); v != "" {
		if !filepath.IsAbs(v) {
			return Config{}, task.Errorf(task.CodeInvalid, "XDG_RUNTIME_DIR is %q; it must be an absolute path", v)
		}
		c.RuntimeDir = v
	}
	return c, nil
}

func (c Config) resolve(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(c.Workspace, p)
}

// Class returns the class with that name, an alias resolved. An unknown name is
// refused with the list of known ones.
func (c Config) Class(name string) (Class, error) {
	if name == "" {
		name = DefaultClass
	}
	k, ok := c.Classes[name]
	if !ok {
		return Class{}, task.Errorf(task.CodeInvalid, "unknown class %q; known are %s", name, strings.Join(c.ClassNames(), ", "))
	}
	if k.AliasOf != "" {
		return c.Class(k.AliasOf)
	}
	return k, nil
}

// ClassNames lists the classes in the order people think of them.
func (c Config) ClassNames() []string {
	known := []string{ClassCPUShort, ClassCPULong, ClassGPUShort, ClassGPULong, ClassGPU, ClassGPUSlurm}
	out := make([]string, 0, len(c.Classes))
	for _, n := range known {
		if _, ok := c.Classes[n]; ok {
			out = append(out, n)
		}
	}
	return out
}

// String names the workspace, for messages.
func (c Config) String() string { return fmt.Sprintf("workspace %s", c.Workspace) }
