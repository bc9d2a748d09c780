package config

import (
	"math"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Keys and flags that other code of this package has to know.
const (
	keyWorkspace = "workspace"
	keyDialAddr  = "dial_addr"
	keyConfig    = "config"

	flagWorkspace = "workspace"
	flagConfig    = "config"

	envConfig   = "DSPY_AGENT_CONFIG"
	envGRPCAddr = "ORCHESTRATOR_GRPC_ADDR"

	envDockerHost = "DOCKER_HOST"
)

// Reasons for Setting.Outside and Setting.Later.
const (
	laterWorkflows = "workflows are not in this release yet"
	laterKafka     = "Kafka is not in this release yet"
)

// century is the bound of what is practically for ever, and can be counted in
// nanoseconds.
const century = 100 * 365 * oneDay

// configFields is the table of all settings that are there once, in the order in
// which people meet them; classFields, typeFields and serviceFields have the rest.
var configFields = slices.Concat(queueFields, envManagerFields, laterFields)

// queueFields are the keys of the queue and of its daemon.
var queueFields = []field[Config]{
	at(keyWorkspace, path(), func(c *Config) *string { return &c.Workspace }, Setting{
		Meaning: "the folder whose queue is meant, and that relative paths are resolved against",
		Flag:    flagWorkspace, Outside: "give --workspace, or change to the folder", Zero: "the current folder", Example: `"/home/ada/project"`,
	}),
	at(keyConfig, path(), func(c *Config) *string { return &c.File }, Setting{
		Meaning: "the configuration file; unlike the default one, a file that is named has to be there. A relative path is that of the current folder in the flag, of the workspace in the variable",
		Flag:    flagConfig, Env: []string{envConfig}, Outside: "give --config, or set " + envConfig,
		Zero: "~/.dspy-agent/config.toml, if HOME is set", Example: `"/home/ada/gpu.toml"`,
	}),
	at("runtime_dir", absolute(), func(c *Config) *string { return &c.RuntimeDir }, Setting{
		Meaning: "where the socket is", Env: []string{"XDG_RUNTIME_DIR"}, Outside: "it belongs to the login, which sets XDG_RUNTIME_DIR",
		Zero: "/tmp/dspy-agent-UID", Example: `"/run/user/1000"`,
	}),
	at(keyDialAddr, address(), func(c *Config) *string { return &c.GRPCAddr }, Setting{
		Meaning: "where commands call the daemon, instead of the workspace's socket; --workspace wins over it",
		Env:     []string{envGRPCAddr}, Outside: "commands on this host use the socket; set " + envGRPCAddr + " to call another address",
		Zero: "the workspace's socket", Example: `"127.0.0.1:50099"`,
	}),
	at("queue_dir", path(), func(c *Config) *string { return &c.QueueDir }, Setting{
		Meaning: "the folder of the queue: its database, the spool of running tasks and their output; on a local disk where there is one",
		Env:     []string{"ENV_QUEUE_DIR"}, Example: `"/scratch/ada/queue"`,
	}),
	at("log_dir", path(), func(c *Config) *string { return &c.LogDir }, Setting{
		Meaning: "the folder of the daemon's log", Example: `"/scratch/ada/logs"`,
	}),
	at("grpc_addr", address(), func(c *Config) *string { return &c.GRPCListen }, Setting{
		Meaning: "where the daemon serves gRPC over TCP, beside its socket; \"none\" = not at all",
		Env:     []string{envGRPCAddr}, Flag: "grpc-addr", Example: `"127.0.0.1:50099"`,
	}),
	at("http_addr", address(), func(c *Config) *string { return &c.HTTPListen }, Setting{
		Meaning: "where the daemon serves HTTP; \"none\" = not at all",
		Env:     []string{"ORCHESTRATOR_HTTP_ADDR"}, Flag: "http-addr", Example: `"127.0.0.1:9099"`,
	}),

	at("capacity.cpus", cpus(1), func(c *Config) *int64 { return &c.CPUMilli }, Setting{
		Meaning: "CPUs that all tasks together may hold", Zero: "what the machine and its cgroup have", Example: `8`,
	}),
	at("capacity.memory", size(0, maxBytes), func(c *Config) *int64 { return &c.MemBytes }, Setting{
		Meaning: "memory that all tasks together may hold", Zero: "what the machine and its cgroup have", Example: `"12GiB"`,
	}),
	at("capacity.nice", integer(0, 19), func(c *Config) *int { return &c.Nice }, Setting{
		Meaning: "added to the nice level of local tasks, so that people who work on the machine come first", Example: `10`,
	}),

	at("gpu.pool", oneOf(PoolAuto, PoolOn, PoolOff), func(c *Config) *string { return &c.GPU.Pool }, Setting{
		Meaning: `whether tasks of this queue get GPUs of this machine: "auto" = yes, unless it has no NVIDIA driver or is a node of Slurm's; "on" = yes, and where there is no driver they are accepted and wait; "off" = no`,
		Example: `"off"`,
	}),
	at("gpu.sharers", integer(1, 64), func(c *Config) *int { return &c.GPU.Sharers }, Setting{
		Meaning: "how many tasks may share a GPU that ask for a part of its memory", Example: `8`,
	}),
	at("gpu.visible", oneOf(VisibleIndex, VisibleUUID), func(c *Config) *string { return &c.GPU.Visible }, Setting{
		Meaning: `what CUDA_VISIBLE_DEVICES names GPUs by: "index", which all programs understand, or "uuid"; with MIG, and while a GPU is lost, it is always UUIDs`,
		Example: `"uuid"`,
	}),
	at("gpu.probe", path(), func(c *Config) *string { return &c.GPU.Probe }, Setting{
		Meaning: "the program that reads NVIDIA's driver", Zero: "gpu-probe beside this program, else in PATH", Example: `"/opt/dspy/bin/gpu-probe"`,
	}),
	at("gpu.library", path(), func(c *Config) *string { return &c.GPU.Library }, Setting{
		Meaning: "NVIDIA's library NVML", Zero: "where the system has it", Example: `"/usr/lib/wsl/lib/libnvidia-ml.so.1"`,
	}),
	at("gpu.lock_dir", path(), func(c *Config) *string { return &c.GPU.LockDir }, Setting{
		Meaning: "the folder of the locks that keep the schedulers of several users off one another's GPUs; it must be the same for all of them",
		Zero:    "/run/lock/dspy-agent, or where that cannot be made, /tmp/dspy-agent-gpus", Example: `"/var/lock/gpus"`,
	}),

	at("retention.task_age", duration(century), func(c *Config) *time.Duration { return &c.Retention.Age }, Setting{
		Meaning: "how long ended tasks are kept, with their output", Zero: "for ever", Example: `"30d"`,
	}),
	at("retention.task_count", integer(0, math.MaxInt32), func(c *Config) *int { return &c.Retention.Count }, Setting{
		Meaning: "how many ended tasks are kept; the oldest go first", Zero: "all", Example: `20000`,
	}),
	at("retention.tombstone_age", duration(century), func(c *Config) *time.Duration { return &c.Retention.TombstoneAge }, Setting{
		Meaning: "how long the id of a removed task still answers, and cannot be used for another one", Zero: "for ever", Example: `"365d"`,
	}),
	at("retention.event_age", duration(century), func(c *Config) *time.Duration { return &c.Retention.EventAge }, Setting{
		Meaning: "how long the event log goes back", Zero: "for ever", Example: `"30d"`,
	}),
	at("retention.event_count", integer(0, math.MaxInt32), func(c *Config) *int { return &c.Retention.EventMax }, Setting{
		Meaning: "how many records the event log has; the oldest go first", Zero: "all", Example: `200000`,
	}),

	at("output.max_log", size(1<<20, 1<<50), func(c *Config) *int64 { return &c.Output.MaxLogBytes }, Setting{
		Meaning: "how much output of an attempt is kept; of more than that the middle is dropped", Example: `"200MiB"`,
	}),
	at("output.max_result", size(1<<10, 32<<20), func(c *Config) *int64 { return &c.Output.MaxResultBytes }, Setting{
		Meaning: "how large the JSON object may be that a task returns", Example: `"1MiB"`,
	}),

	at("containers.mounts", folders(), func(c *Config) *[]string { return &c.Containers.Mounts }, Setting{
		Meaning: "folders of this host below which containers may be shown files; what a link leads to has to be below one as well", Zero: "the workspace", Example: `["/data", "/scratch/ada"]`,
	}),
	at("containers.network", textual("none, host, or the name of a network", networkName), func(c *Config) *string { return &c.Containers.Network }, Setting{
		Meaning: "the network of containers: none, host (this machine's own), or the name of a network of the engine", Example: `"services"`,
	}),
	at("containers.networks", list("list of texts", `a list of names of networks, none twice, such as ["services", "host"]`, func(v value) (string, bool) {
		return v.text, v.kind == kindText && networkName(v.text)
	}, quote), func(c *Config) *[]string { return &c.Containers.Networks }, Setting{
		Meaning: "networks that a task may ask for, beside none and the one above", Zero: "no others", Example: `["services", "host"]`,
	}),
	at("containers.capabilities", capabilities(), func(c *Config) *[]string { return &c.Containers.Capabilities }, Setting{
		Meaning: "capabilities of the kernel that programs in containers may use; all others are dropped", Zero: "none", Example: `["NET_BIND_SERVICE"]`,
	}),
	at("containers.shm", size(0, maxBytes), func(c *Config) *int64 { return &c.Containers.ShmBytes }, Setting{
		Meaning: "size of /dev/shm in a container, which PyTorch's data loaders use", Zero: "the engine's default, 64 MiB as a rule", Example: `"8GiB"`,
	}),
	at("containers.pids", integer(0, 4_194_304), func(c *Config) *int { return &c.Containers.PIDs }, Setting{
		Meaning: "how many processes and threads a container may have", Zero: "no limit of its own", Example: `4096`,
	}),

	at("slurm.partition", textual(slurmValue, isSlurmValue), func(c *Config) *string { return &c.Slurm.Partition }, Setting{
		Meaning: "the partition of jobs", Zero: "Slurm's default", Example: `"gpu"`,
	}),
	at("slurm.account", textual(slurmValue, isSlurmValue), func(c *Config) *string { return &c.Slurm.Account }, Setting{
		Meaning: "the account that Slurm charges", Zero: "Slurm's default", Example: `"ada"`,
	}),
	at("slurm.qos", textual(slurmValue, isSlurmValue), func(c *Config) *string { return &c.Slurm.QOS }, Setting{
		Meaning: "the quality of service", Zero: "Slurm's default", Example: `"normal"`,
	}),
	at("slurm.constraint", textual(slurmValue, isSlurmValue), func(c *Config) *string { return &c.Slurm.Constraint }, Setting{
		Meaning: "features that nodes must have", Zero: "none", Example: `"a100|h100"`,
	}),
	at("slurm.walltime", duration(task.MaxDuration), func(c *Config) *time.Duration { return &c.Slurm.Walltime }, Setting{
		Meaning: "the time limit of jobs whose task has none", Zero: "the partition's", Example: `"12h"`,
	}),
	at("slurm.directives", directives(), func(c *Config) *[]string { return &c.Slurm.Directives }, Setting{
		Meaning: "more #SBATCH lines for all jobs", Zero: "none", Example: `["--mail-type=FAIL"]`,
	}),
	at("slurm.setup", texts(), func(c *Config) *[]string { return &c.Slurm.Setup }, Setting{
		Meaning: "lines that bash reads in a job before the task", Zero: "none", Example: `["source ~/.venv/bin/activate"]`,
	}),
	at("slurm.templates", path(), func(c *Config) *string { return &c.Slurm.Templates }, Setting{
		Meaning: "the folder with templates of jobs: batch scripts, chosen by a payload's template or method, or by class; see slurm.md", Zero: "no templates", Example: `"/home/ada/templates"`,
	}),
	at("slurm.max_jobs", integer(0, 1_000_000), func(c *Config) *int { return &c.Slurm.MaxJobs }, Setting{
		Meaning: "how many jobs may be in Slurm at a time; more tasks wait here, where they can be put into another order", Zero: "any number", Example: `200`,
	}),

	at("workers.auto", integer(0, 10_000), func(c *Config) *int { return &c.Workers.Max }, Setting{
		Meaning: "how many worker jobs may be in Slurm at a time that are submitted by themselves while tasks wait whose class has the backend worker", Zero: "none is", Example: `4`,
	}),
	at("workers.backlog", integer(1, 1_000_000), func(c *Config) *int { return &c.Workers.Backlog }, Setting{
		Meaning: "for how many waiting tasks one such job is submitted", Example: `500`,
	}),
	at("workers.cpus", integer(1, 10_000), func(c *Config) *int { return &c.Workers.CPUs }, Setting{
		Meaning: "CPUs of such a job", Example: `16`,
	}),
	at("workers.gpus", integer(0, 1_000), func(c *Config) *int { return &c.Workers.GPUs }, Setting{
		Meaning: "GPUs of such a job", Example: `4`,
	}),
	at("workers.mem", size(0, maxBytes), func(c *Config) *int64 { return &c.Workers.MemBytes }, Setting{
		Meaning: "memory of such a job", Zero: "Slurm's default", Example: `"16GiB"`,
	}),
	at("workers.partition", textual(slurmValue, isSlurmValue), func(c *Config) *string { return &c.Workers.Partition }, Setting{
		Meaning: "the partition of such jobs", Zero: "as in [slurm]", Example: `"short"`,
	}),
	at("workers.walltime", duration(task.MaxDuration), func(c *Config) *time.Duration { return &c.Workers.Walltime }, Setting{
		Meaning: "the time limit of such a job", Zero: "the partition's", Example: `"4h"`,
	}),
	at("workers.idle", duration(task.MaxDuration), func(c *Config) *time.Duration { return &c.Workers.Idle }, Setting{
		Meaning: "how long such a job stays when there is nothing to do", Zero: "until its time is over", Example: `"2m"`,
	}),

	at("limits.max_waiting", integer(0, math.MaxInt32), func(c *Config) *int { return &c.Limits.MaxWaiting }, Setting{
		Meaning: "how many tasks may wait at once; more are refused", Zero: "2,000,000", Example: `100000`,
	}),
	at("limits.max_connections", integer(1, 100_000), func(c *Config) *int { return &c.Limits.MaxConnections }, Setting{
		Meaning: "how many TCP connections of your programs may be open at once, gRPC and HTTP together; more are refused. The socket, and TLS, have places of their own", Example: `2000`,
	}),

	at("access.metrics_allow_uids", uids(), func(c *Config) *[]uint32 { return &c.Access.MetricsAllowUIDs }, Setting{
		Meaning: "users beside the owner who may read /metrics and /health over TCP, and nothing else: a Prometheus, say", Zero: "nobody", Example: `[997]`,
	}),
	at("access.http_hosts", hosts(), func(c *Config) *[]string { return &c.Access.HTTPHosts }, Setting{
		Meaning: "names of this host that requests of browsers may carry, beside those of the loopback", Zero: "none", Example: `["login1.example.org"]`,
	}),
	at("access.dir", path(), func(c *Config) *string { return &c.Access.Dir }, Setting{
		Meaning: "folder with the certificate, the key and the token that callers from beyond the loopback need; made by: dspy-agent access tls, and: dspy-agent access token",
		Zero:    "~/.dspy-agent/access, if HOME is set", Example: `"/home/ada/secrets"`,
	}),

	at("docker_host", textual("a text", anyText), func(c *Config) *string { return &c.DockerHost }, Setting{
		Meaning: "where the container engine is called: unix:///PATH or tcp://HOST:PORT", Env: []string{envDockerHost},
		Zero: "unix:///var/run/docker.sock", Example: `"unix:///run/user/1000/podman/podman.sock"`,
	}),
	at(keyEnvManagerAddr, address(), func(c *Config) *string { return &c.EnvManagerAddr }, Setting{
		Meaning: "where env-manager, which keeps the supporting services, is called; where nothing is said here it is where env_manager.grpc_addr has it listen",
		Env:     []string{"ENV_MANAGER_ADDR", envEnvManagerGRPC}, Example: `"127.0.0.1:50051"`,
	}),
}

// laterFields are for parts that are not there yet.
var laterFields = []field[Config]{
	at("workflows.store_dir", path(), func(c *Config) *string { return &c.Workflows.StoreDir }, Setting{
		Meaning: "the folder of workflow definitions", Later: laterWorkflows, Outside: laterWorkflows, Env: []string{"WORKFLOW_STORE_DIR"}, Example: `"/scratch/ada/workflows"`,
	}),
	at("workflows.run_dir", path(), func(c *Config) *string { return &c.Workflows.RunDir }, Setting{
		Meaning: "the folder of workflow runs", Later: laterWorkflows, Outside: laterWorkflows, Env: []string{"WORKFLOW_RUN_DIR"}, Example: `"/scratch/ada/runs"`,
	}),
	at("kafka.bootstrap_servers", textual("a text", anyText), func(c *Config) *string { return &c.Kafka.BootstrapServers }, Setting{
		Meaning: "HOST:PORT of Kafka brokers, separated by commas", Later: laterKafka, Outside: laterKafka, Env: []string{"KAFKA_BOOTSTRAP_SERVERS"},
		Zero: "events are not published", Example: `"127.0.0.1:9092"`,
	}),
	at("kafka.event_topic", textual("a text", anyText), func(c *Config) *string { return &c.Kafka.EventTopic }, Setting{
		Meaning: "the topic of events", Later: laterKafka, Outside: laterKafka, Env: []string{"KAFKA_EVENT_TOPIC"}, Example: `"ada.events"`,
	}),
}

// sections says what the tables of the file are about, in their order; "" has
// the keys above the first.
var sections = []struct{ name, about string }{
	{"", "Places and addresses."},
	{"capacity", "What this machine gives to tasks."},
	{"gpu", "How this machine's GPUs are given out."},
	{"retention", "How long the past is kept. 0 = for ever."},
	{"output", "How much of a task's output is kept."},
	{"containers", "What tasks with an image may do and see."},
	{"slurm", "What jobs of Slurm are like. [classes.NAME] has the same keys for one class."},
	{"workers", "Jobs of Slurm that run many short tasks each. All other keys are those of [slurm]."},
	{"limits", "Bounds that keep a loop in a script from filling the queue."},
	{"access", "Who may use the TCP addresses, beside the programs of the user whose queue it is."},
	{tableEnvManager, "How env-manager works, which keeps the supporting services (Redis, Kafka ...) as containers."},
	{tableClasses, "Classes of tasks, [classes.NAME]. A name that is not here makes a new class, in which what is left out is as in cpu_long; in a class that is here, what is left out stays as it is."},
	{tableTypes, `Task types, [types.NAME]: programs that a payload can name, as in {"type": "NAME"}, instead of bringing a command.`},
	{tableServices, "Supporting services, [services.NAME]. In one that is built in, what is left out stays as it is; a name that is not makes a new service."},
}
