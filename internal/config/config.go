package config

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// Config is the effective configuration. It is a value: what it refers to is
// shared by its copies and not to be changed.
type Config struct {
	// Workspace is the folder that relative paths are resolved against.
	Workspace string
	// File is the configuration file that was read, or would be if it were there;
	// "" when there is no home to look in.
	File string
	// QueueDir holds the queue's database, the spool of running work and the
	// output of tasks. ENV_QUEUE_DIR.
	QueueDir string
	// LogDir holds the logs of the daemons.
	LogDir string
	// RuntimeDir is XDG_RUNTIME_DIR; "" when the login gave none.
	RuntimeDir string

	// GRPCAddr, when set by ORCHESTRATOR_GRPC_ADDR, is where a client dials
	// instead of the Unix socket. What the file says about the daemon does not
	// change how its owner reaches it on the same host.
	GRPCAddr string
	// GRPCListen and HTTPListen are the TCP addresses, HOST:PORT, at which the
	// orchestrator serves; "" = it opens no such door.
	GRPCListen string
	HTTPListen string
	Access     Access

	Classes map[string]Class
	Types   map[string]TaskType
	// Capacity of this machine for tasks. 0 = what the machine and its cgroup have.
	CPUMilli int64
	MemBytes int64
	// Nice is added to the scheduling niceness of local tasks.
	Nice int
	GPU  GPU

	Retention  Retention
	Output     Output
	Containers Containers
	Slurm      Slurm
	Workers    Workers
	Limits     Limits
	DockerHost string // "" = Docker's own default

	EnvManager     EnvManager
	EnvManagerAddr string // where env-manager is dialled; "" = nowhere
	// Services is what is said about supporting services, those that are built in and others.
	Services map[string]Service

	// The rest is read from the environment for parts of a later release.

	Workflows Workflows
	Kafka     Kafka

	home     string            // "" = not known
	sources  map[string]Source // by key; what is not there is a default
	fileRead bool
	fileTime time.Time // of its last change; zero = it was not read
}

// AccessDir is the folder of the certificate, its key and the token. Without all
// of them nothing listens beyond the loopback. "" when none is configured and
// there is no home.
func (c Config) AccessDir() string {
	if c.Access.Dir != "" || c.home == "" {
		return c.Access.Dir
	}
	return filepath.Join(c.home, ".dspy-agent", "access")
}

// GPU says how this machine's GPUs are given out.
type GPU struct {
	Pool    string // PoolAuto, PoolOn or PoolOff
	Sharers int    // tasks that may share one, by memory
	Visible string // VisibleIndex or VisibleUUID
	Probe   string // the program gpu-probe; "" = beside this one, else in PATH
	Library string // NVML; "" = where the system has it
	LockDir string // "" = /run/lock/dspy-agent, or where that cannot be, /tmp/dspy-agent-gpus
}

// Whether this machine's GPUs are given out: if it has a driver and is no node of
// Slurm's; always; never.
const (
	PoolAuto = "auto"
	PoolOn   = "on"
	PoolOff  = "off"
)

// How programs are told which GPUs are theirs.
const (
	VisibleIndex = "index"
	VisibleUUID  = "uuid"
)

// Access says who may use the TCP doors beside the owner's own programs.
type Access struct {
	MetricsAllowUIDs []uint32 // may read /metrics and /health, and nothing else
	HTTPHosts        []string // Host names accepted beside those of the loopback
	// Dir is the folder of the certificate, its key and the token; "" = the one that
	// Config.AccessDir tells.
	Dir string
}

// Retention says how long what has ended is kept. 0 = without bound.
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

// Containers says what tasks with an image may do and see.
type Containers struct {
	Mounts       []string // folders of the host below which files may be shown
	Network      string   // "none", "host", or the name of one
	Networks     []string // that a task may ask for besides
	Capabilities []string
	ShmBytes     int64 // 0 = the engine's default
	PIDs         int   // 0 = no limit
}

// Slurm says what jobs are like, and how many there may be.
type Slurm struct {
	SlurmJob
	MaxJobs   int    // at a time, for all classes; 0 = any number
	Templates string // folder of templates of jobs; "" = there are none
}

// Workers says what jobs of workers are like that are submitted while tasks wait for them.
type Workers struct {
	Max       int // at a time; 0 = none is submitted
	Backlog   int // how many tasks have to wait for each
	CPUs      int
	GPUs      int
	MemBytes  int64
	Partition string
	Walltime  time.Duration
	Idle      time.Duration // without a task, until one ends
}

// SlurmJob is what a site's Slurm wants to be told. "" and 0 = nothing.
type SlurmJob struct {
	Partition, Account, QOS, Constraint string
	Walltime                            time.Duration // of jobs whose task has no time limit
	Directives                          []string
	Setup                               []string // lines for bash
}

// SlurmJob returns what jobs of a class are like.
func (c Config) SlurmJob(class string) SlurmJob {
	j := c.Slurm.SlurmJob
	k, err := c.Class(class)
	if err != nil {
		return j // no task of it is placed
	}
	own := k.Slurm
	j.Partition, j.Account = cmp.Or(own.Partition, j.Partition), cmp.Or(own.Account, j.Account)
	j.QOS, j.Constraint = cmp.Or(own.QOS, j.QOS), cmp.Or(own.Constraint, j.Constraint)
	j.Walltime = cmp.Or(own.Walltime, j.Walltime)
	j.Directives = slices.Concat(j.Directives, own.Directives)
	j.Setup = slices.Concat(j.Setup, own.Setup)
	return j
}

// Limits protect the queue from its own user's loops.
type Limits struct {
	// MaxWaiting is how many tasks may wait at once; more are refused. 0 = no bound.
	MaxWaiting int
	// MaxConnections is how many TCP connections of the owner's programs may be open
	// at once, without TLS; more are refused. At least 1.
	MaxConnections int
}

// Workflows says where workflows are kept.
type Workflows struct {
	StoreDir string // definitions
	RunDir   string // runs
}

// Kafka says where events are published.
type Kafka struct {
	BootstrapServers string // "" = nowhere
	EventTopic       string
}

// Default returns the settings that hold when nothing is given. It is the only
// place where a default is written.
func Default(workspace string) Config {
	const day = 24 * time.Hour
	const envManagerAddr = "127.0.0.1:50100"
	return Config{
		Workspace:  workspace,
		QueueDir:   filepath.Join(workspace, "logs", "env_queue"),
		LogDir:     filepath.Join(workspace, "logs"),
		GRPCListen: "127.0.0.1:50052",
		HTTPListen: "127.0.0.1:9097",
		Classes: named(map[string]Class{
			ClassCPUShort: {Limit: time.Minute, Short: true, Backends: []string{BackendProcess, BackendContainer}},
			ClassCPULong:  {Backends: []string{BackendProcess, BackendContainer}},
			ClassGPUShort: {Limit: 5 * time.Minute, GPUs: 1, Backends: []string{BackendProcess, BackendContainer}},
			ClassGPULong:  {GPUs: 1, Backends: []string{BackendProcess, BackendContainer}},
			ClassGPU:      {AliasOf: ClassGPULong},
			ClassGPUSlurm: {GPUs: 1, Backends: []string{BackendSlurm}},
		}),
		Retention: Retention{
			Age: 7 * day, Count: 1_000_000,
			TombstoneAge: 90 * day, EventAge: 7 * day, EventMax: 5_000_000,
		},
		Output:     Output{MaxLogBytes: 1 << 30, MaxResultBytes: 4 << 20},
		Containers: Containers{Network: "none", ShmBytes: 0, PIDs: 16384},
		Slurm:      Slurm{SlurmJob: SlurmJob{Walltime: day}, MaxJobs: 1000},
		Workers:    Workers{Backlog: 100, CPUs: 4, Walltime: time.Hour, Idle: time.Minute},
		Limits:     Limits{MaxConnections: 512},
		GPU:        GPU{Pool: PoolAuto, Sharers: gpu.DefaultSharers, Visible: VisibleIndex},

		EnvManager: EnvManager{
			GRPCAddr: envManagerAddr, HTTPAddr: "127.0.0.1:50101",
			MaxStarts: 5, HealthTimeout: time.Minute, HealthAttempts: 30, Network: "dspy-agent",
		},
		EnvManagerAddr: envManagerAddr,
		Workflows:      Workflows{StoreDir: filepath.Join(workspace, "data", "workflows"), RunDir: filepath.Join(workspace, "data", "workflow_runs")},
		Kafka:          Kafka{EventTopic: "agent.events"},
	}
}

// String names the workspace, for messages: a path that would act on the terminal is quoted.
func (c Config) String() string {
	name := c.Workspace
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	return "workspace " + name
}

// Args returns the flags with which another of our programs, started anywhere,
// loads this same configuration in the same environment.
func (c Config) Args() []string {
	args := []string{"--" + flagWorkspace, c.Workspace}
	if c.Source(keyConfig).Kind == FromFlag {
		args = append(args, "--"+flagConfig, c.File)
	}
	return args
}
